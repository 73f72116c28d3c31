#include "command_line.h"

#include <ATen/Parallel.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <set>

#include "recast/base/error.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"
#include "recast/run/machine.h"
#include "recast/run/settings.h"

namespace recast {
namespace {

std::atomic<bool> stop_requested{false};

void on_interrupt(int) {
  if (stop_requested.exchange(true)) ::_exit(130);
  constexpr char kText[] = "\nrecast: stopping after this step; press Ctrl-C again to stop at once\n";
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, kText, sizeof kText - 1);
}

std::string version_text() { return fmt::format("recast {}", kRecastVersion); }

std::string dump(const nlohmann::json& document) {
  return document.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

void write_out(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

/// How an option is called in a config file: its long name, or that of a positional.
std::string key_of(const CLI::Option* option) {
  if (!option->get_lnames().empty()) return option->get_lnames().front();
  return option->get_positional() ? option->get_name(true) : "";
}

std::string environment_name(std::string key) {
  for (char& c : key) c = c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return "RECAST_" + key;
}

/// Flags that make sense once and on the spot only.
bool from_environment(const std::string& key) {
  static const std::set<std::string> kOnTheSpot = {"help",   "version", "json", "force", "config", "print-config",
                                                   "resume", "purge",   "out",  "task",  "as",     "all"};
  return !key.empty() && kOnTheSpot.count(key) == 0;
}

void give(CLI::Option* option, const std::vector<std::string>& values, const std::string& origin) {
  try {
    for (const std::string& value : values) option->add_result(value);
    option->run_callback();
  } catch (const CLI::Error& error) {
    fail(Code::kInvalidArgument, "[config] {}: {}", origin, error.what());
  }
}

}  // namespace

std::string joined(const nlohmann::json& texts, const char* separator) {
  std::string out;
  for (const auto& text : texts) out += (out.empty() ? "" : separator) + text.get<std::string>();
  return out;
}

// ---- commands ------------------------------------------------------------------------------------------------------

template <class T>
Command& Command::option(const std::string& flags, T& target, const std::string& help, const std::string& type) {
  last_ = app_->add_option(flags, target, help);
  if (!type.empty()) last_->type_name(type);
  constexpr bool kCounts = std::is_same_v<T, std::int64_t> || std::is_same_v<T, std::uint64_t>;
  if constexpr (kCounts) last_->capture_default_str();
  // One value each time the flag is given: otherwise it would swallow the positionals after it.
  if (std::is_same_v<T, std::vector<std::string>> && flags.starts_with("-")) last_->allow_extra_args(false);
  if constexpr (std::is_same_v<T, std::string>)
    if (!target.empty()) last_->capture_default_str();
  return *this;
}
template Command& Command::option(const std::string&, std::string&, const std::string&, const std::string&);
template Command& Command::option(const std::string&, std::int64_t&, const std::string&, const std::string&);
template Command& Command::option(const std::string&, std::uint64_t&, const std::string&, const std::string&);
template Command& Command::option(const std::string&, std::vector<std::string>&, const std::string&,
                                  const std::string&);
template Command& Command::option(const std::string&, std::optional<std::string>&, const std::string&,
                                  const std::string&);
template Command& Command::option(const std::string&, std::optional<std::int64_t>&, const std::string&,
                                  const std::string&);
template Command& Command::option(const std::string&, std::optional<double>&, const std::string&, const std::string&);

Command& Command::triple(const std::string& flags, std::vector<double>& target, const std::string& help,
                         const std::string& type) {
  last_ = app_->add_option(flags, target, help)->expected(3)->delimiter(',')->type_name(type);
  return *this;
}

Command& Command::flag(const std::string& flags, bool& target, const std::string& help) {
  last_ = app_->add_flag(flags, target, help);
  return *this;
}

Command& Command::required() {
  last_->required();
  return *this;
}

Command& Command::one_of(std::initializer_list<std::string> values) {
  last_->check(CLI::IsMember(std::vector<std::string>(values)));
  return *this;
}

Command& Command::add(const std::string& name, const std::string& summary) {
  app_->require_subcommand(1);
  CLI::App* verb = app_->add_subcommand(name, summary);
  verb->fallthrough();
  return line_.keep(verb);
}

void Command::on(std::function<void()> run) {
  app_->callback([this, run = std::move(run)] {
    line_.chosen_ = app_;
    line_.work_ = run;
  });
}

CommandLine::CommandLine()
    : app_(std::make_unique<CLI::App>("One frozen backbone, any number of tasks, a handful of numbers each.",
                                      "recast")) {
  app_->require_subcommand(1);
  app_->set_version_flag("--version", version_text());
  app_->get_formatter()->column_width(34);
  app_->footer("recast COMMAND --help shows a command's flags and an example.");
}

CommandLine::~CommandLine() = default;

Command& CommandLine::keep(CLI::App* app) {
  commands_.push_back(std::unique_ptr<Command>(new Command(*this, app)));
  return *commands_.back();
}

Command& CommandLine::add(const std::string& name, const std::string& summary, const std::string& example,
                          bool own_out) {
  CLI::App* app = app_->add_subcommand(name, summary);
  app->footer("Example:\n  " + example);
  app->set_version_flag("--version", version_text());
  Command& command = keep(app);
  command.flag("--json", json_, "one JSON document on standard output, progress on standard error");
  if (!own_out) {
    command.option("--out", out_, "write the JSON document to this file", "FILE");
    command.flag("--force", force_, "replace what is written to where it exists");
  }
  command.flag("-q,--quiet", quiet_, "no progress").flag("-v,--verbose", verbose_, "say more of what is done");
  app->add_option("--threads", threads_, "processor threads (default: all cores, or OMP_NUM_THREADS)")
      ->type_name("N")
      ->check(CLI::Range(1, 1024));
  return command;
}

const std::atomic<bool>* CommandLine::stop() {
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  ::sigaction(SIGINT, &action, nullptr);
  return &stop_requested;
}

void CommandLine::take_other_sources() {
  const Settings file = config_file.empty() ? Settings{} : read_settings(config_file);
  std::map<std::string, CLI::Option*> options;
  for (CLI::Option* option : chosen_->get_options()) options[key_of(option)] = option;
  std::vector<std::string> keys;
  for (const auto& [key, option] : options) keys.push_back(key);
  std::set<CLI::Option*> given;
  for (const auto& [key, option] : options) {
    if (option->count() > 0) given.insert(option);
    const char* value = std::getenv(environment_name(key).c_str());
    if (!value || !from_environment(key) || !given.insert(option).second) continue;
    give(option, {value}, environment_name(key));
  }
  for (const auto& [key, values] : file) {
    const auto option = options.find(key);
    if (option == options.end() || key == "config" || key == "help") {
      const std::string near = nearest(key, keys);
      fail(Code::kInvalidArgument, "[config] {}: no setting '{}'{}", config_file, printable(key),
           near.empty() ? "" : ", did you mean '" + near + "'?");
    }
    if (given.insert(option->second).second) give(option->second, values, config_file + ": " + key);
  }
}

void CommandLine::begin() const {
  if (threads_ > 0) at::set_num_threads(static_cast<int>(threads_));
  if (!out_.empty() && !force_ && std::filesystem::exists(out_))
    fail(Code::kAlreadyExists, "[out] {} exists: choose another file, or --force to replace it", out_);
}

void CommandLine::print(const nlohmann::json& document, const std::function<std::string(const nlohmann::json&)>& text) {
  if (!out_.empty()) write_file_atomically(out_, dump(document));
  if (json_ && out_.empty())
    write_out(dump(document));
  else if (!json_)
    write_out(text(document));
}

void CommandLine::print_text(const std::string& text) { write_out(text); }

void CommandLine::usage_error(const CLI::ParseError& error) {
  const CLI::App* at = app_.get();
  while (!at->get_subcommands().empty()) at = at->get_subcommands().front();
  std::vector<std::string> flags, commands;
  for (const CLI::App* level = at; level; level = level->get_parent())
    for (const CLI::Option* option : level->get_options())
      for (const std::string& name : option->get_lnames()) flags.push_back("--" + name);
  for (const CLI::App* command : at->get_subcommands([](const CLI::App*) { return true; }))
    commands.push_back(command->get_name());
  for (const std::string& word : app_->remaining(true)) {
    const bool flag = word.starts_with("-");
    if (!flag && commands.empty()) continue;
    const std::string bare = word.substr(0, flag ? word.find('=') : word.npos);
    const std::string near = nearest(bare, flag ? flags : commands);
    fail(Code::kInvalidArgument, "[usage] unknown {} '{}'{}; see {} --help", flag ? "flag" : "command", printable(bare),
         near.empty() ? "" : ", did you mean '" + near + "'?",
         at == app_.get() ? "recast" : "recast " + at->get_name());
  }
  fail(Code::kInvalidArgument, "[usage] {}; see {} --help", printable(error.what(), 300),
       at == app_.get() ? "recast" : "recast " + at->get_name());
}

void CommandLine::parse(int argc, char** argv) {
  try {
    app_->parse(argc, argv);
  } catch (const CLI::Success&) {
    throw;
  } catch (const CLI::ParseError& error) {
    usage_error(error);
  }
  take_other_sources();
}

int CommandLine::report(const std::string& code, const std::string& message, int status) const {
  if (json_) {
    std::fputs(dump({{"error", {{"code", code}, {"message", message}}}}).c_str(), stderr);
  } else {
    std::fputs(("recast: " + message + "\n").c_str(), stderr);
  }
  return status;
}

int CommandLine::finish(const std::function<void()>& work) {
  auto say = [this](Code code, const std::string& message) {
    return report(std::string(name(code)), message, exit_status(code));
  };
  try {
    work();
    return 0;
  } catch (const CLI::Success& success) {
    return app_->exit(success);
  } catch (const Error& error) {
    return say(error.code(), error.what());
  } catch (const c10::Error& error) {
    const std::string text = error.msg().substr(0, error.msg().find('\n'));
    const bool memory = text.find("can't allocate memory") != text.npos;
    return say(memory ? Code::kExhausted : Code::kInternal, "[torch] " + text);
  } catch (const std::bad_alloc&) {
    return say(Code::kExhausted, "[memory] not enough memory: use smaller images, batches or fewer at a time");
  } catch (const std::filesystem::filesystem_error& error) {
    return say(Code::kUnavailable, fmt::format("[file] {}: {}", error.path1().string(), error.code().message()));
  } catch (const std::exception& error) {
    return say(Code::kInternal, fmt::format("[internal] {}", error.what()));
  }
}

int CommandLine::run(int argc, char** argv) {
  for (int i = 0; i < argc; ++i) {
    command_ += (i > 0 ? " " : "") + std::string(i > 0 ? argv[i] : "recast");
    if (std::string_view(argv[i]) == "--json") json_ = true;  // so that a usage error is JSON as well
  }
  return finish([&] {
    parse(argc, argv);
    begin();
    work_();
  });
}

}  // namespace recast
