#include "command_line.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <set>

#include "crash.h"
#include "recast/base/error.h"
#include "recast/base/log.h"
#include "recast/comm/ranks.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"
#include "recast/run/machine.h"
#include "recast/run/settings.h"
#include "recast/store/open_store.h"

namespace recast {
namespace {

constexpr std::size_t kMaxMessageBytes = 10'000;

std::atomic<bool> stop_requested{false};
std::atomic<int> stop_signal{0};
std::atomic<const char*> until_stopped{""};
std::atomic<bool> hung_up{false};

/// As a shell shows the end by a signal: 130 for Ctrl-C.
int stopped_status() { return 128 + (stop_signal > 0 ? stop_signal.load() : SIGINT); }

void on_stop(int signal) {
  stop_signal = signal;
  if (stop_requested.exchange(true)) ::_exit(stopped_status());
  for (const char* part : {"\nrecast: ", until_stopped.load(), "; press Ctrl-C again to stop at once\n"})
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, part, std::strlen(part));
}

/// Whoever read standard output has gone, as `head` does: nothing is left to say.
struct ReaderGone {};

std::string version_text() { return fmt::format("recast {}", kRecastVersion); }

std::string dump(const nlohmann::json& document) {
  return document.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

void write_out(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) return;
  if (errno == EPIPE) throw ReaderGone{};
  fail(Code::kUnavailable, "[output] standard output: {}; the work was done, its result could not be shown",
       std::strerror(errno));
}

/// A command's text without what a terminal would obey: a label or path from a stranger's file may hold anything.
std::string harmless(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    out += printable(text.substr(0, end), text.npos);
    if (end < text.size()) out += '\n';
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

/// How an option is called in a config file: its long name, or that of a positional.
std::string key_of(const CLI::Option* option) {
  if (!option->get_lnames().empty()) return option->get_lnames().front();
  return option->get_positional() ? option->get_name(true) : "";
}

std::string upper_case(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

std::string environment_name(std::string key) {
  std::replace(key.begin(), key.end(), '-', '_');
  return "RECAST_" + upper_case(std::move(key));
}

/// Flags that make sense once and on the spot only.
bool from_environment(const std::string& key) {
  static const std::set<std::string> kOnTheSpot = {"help",   "version", "json", "force", "config", "print-config",
                                                   "resume", "purge",   "out",  "task",  "as",     "all"};
  return !key.empty() && kOnTheSpot.count(key) == 0;
}

/// Without a password.
std::string shown_url(const std::string& store) {
  try {
    return shown_store({}, store);
  } catch (const Error&) {
    return "no URL";
  }
}

void give(CLI::Option* option, const std::vector<std::string>& values, const std::string& origin) {
  try {
    for (const std::string& value : values) option->add_result(value);
    option->run_callback();
  } catch (const CLI::Error& error) {
    fail(Code::kInvalidArgument, "[config] {}: {}", origin, error.what());
  }
}

/// The values in "NAME:{a,b}", as the parser shows an option that takes some only.
nlohmann::json choices_of(const std::string& type) {
  nlohmann::json choices = nlohmann::json::array();
  const std::size_t begin = type.find('{'), end = type.find('}');
  if (begin == type.npos || end == type.npos) return choices;
  std::string word;
  for (const char c : type.substr(begin + 1, end - begin)) {
    if (c != ',' && c != '}') {
      word += c;
      continue;
    }
    choices.push_back(word);
    word.clear();
  }
  return choices;
}

nlohmann::json describe_option(const CLI::Option& option) {
  const bool positional = option.get_positional() && option.get_lnames().empty();
  nlohmann::json names = nlohmann::json::array();
  if (positional) names.push_back(option.get_name(true));
  for (const std::string& name : option.get_snames()) names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) names.push_back("--" + name);
  const bool flag = option.get_items_expected_max() == 0;
  const std::string type = flag ? "" : option.get_type_name();
  return {{"names", names},
          {"value", type.substr(0, type.find(':'))},
          {"choices", choices_of(type)},
          {"default", option.get_default_str()},
          {"required", option.get_required()},
          {"help", option.get_description()}};
}

nlohmann::json describe_command(const CLI::App& app) {
  nlohmann::json positionals = nlohmann::json::array(), options = nlohmann::json::array(),
                 commands = nlohmann::json::array();
  for (const CLI::Option* option : app.get_options())
    (option->get_positional() && option->get_lnames().empty() ? positionals : options)
        .push_back(describe_option(*option));
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    commands.push_back(describe_command(*command));
  const std::string footer = app.get_footer();
  const std::string_view kExample = "Example:\n  ";
  return {{"name", app.get_name()},
          {"summary", app.get_description()},
          {"example", footer.starts_with(kExample) ? footer.substr(kExample.size()) : ""},
          {"positionals", positionals},
          {"options", options},
          {"commands", commands}};
}

/// Whole, decimal and within T. The parser by itself takes a number beyond T for T's limit, -1 for the largest, 010 for
/// eight and an empty text for zero.
template <class T>
std::string whole_number(std::string text) {
  T value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc{} && end == text.data() + text.size()) return std::to_string(value);
  throw CLI::ValidationError(fmt::format("must be a whole number from {} to {}, got '{}'",
                                         std::numeric_limits<T>::min(), std::numeric_limits<T>::max(), text));
}

/// The parser by itself takes 1e400 for infinity and an empty text for zero.
std::string real_number(std::string text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc{} && end == text.data() + text.size() && std::isfinite(value)) return text;
  throw CLI::ValidationError(fmt::format("must be a finite number such as 0.01 or 1e-3, got '{}'", text));
}

/// An empty text comes from a variable that is not set, not from somebody who wants nothing.
std::string no_empty_text(std::string text) {
  if (text.empty()) throw CLI::ValidationError("got an empty text; expected a value");
  return text;
}

/// "recast tasks DIR diff": what to write before --help.
std::string typed_as(const CLI::App* command) {
  std::string words;
  for (const CLI::App* level = command; level; level = level->get_parent()) {
    std::string word = level->get_name();
    if (level != command)
      for (const CLI::Option* option : level->get_options())
        if (option->get_positional() && option->get_lnames().empty()) word += " " + upper_case(option->get_name(true));
    words = words.empty() ? word : word + " " + words;
  }
  return words;
}

}  // namespace

std::string typed(int argc, char** argv) {
  std::string command = "recast";
  for (int i = 1; i < argc; ++i) command += std::string(" ") + argv[i];
  return command;
}

std::string joined(const nlohmann::json& texts, const char* separator) {
  std::string out;
  for (const auto& text : texts)
    out += (out.empty() ? "" : separator) + printable(text.get<std::string>(), std::string::npos);
  return out;
}

// ---- commands ------------------------------------------------------------------------------------------------------

template <class T>
Command& Command::option(const std::string& flags, T& target, const std::string& help, const std::string& type) {
  last_ = app_->add_option(flags, target, help);
  if (!type.empty()) last_->type_name(type);
  constexpr bool kCounts = std::is_same_v<T, std::int64_t> || std::is_same_v<T, std::uint64_t>;
  if constexpr (std::is_same_v<T, std::uint64_t>)
    last_->transform(whole_number<std::uint64_t>);
  else if constexpr (std::is_same_v<T, std::int64_t> || std::is_same_v<T, std::optional<std::int64_t>>)
    last_->transform(whole_number<std::int64_t>);
  else if constexpr (std::is_same_v<T, std::optional<double>>)
    last_->transform(real_number);
  else
    last_->transform(no_empty_text);
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
  last_ = app_->add_option(flags, target, help)->expected(3)->delimiter(',')->type_name(type)->transform(real_number);
  return *this;
}

Command& Command::flag(const std::string& flags, bool& target, const std::string& help) {
  last_ = app_->add_flag(flags, target, help);
  return *this;
}

Command& Command::store(std::string& url) {
  return option("--store", url, "tasks of this PostgreSQL database instead of the directory's own: docs/fleet.md",
                "postgresql://USER@HOST/DATABASE");
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
      ->check(CLI::Range(1, 1024))
      ->transform(whole_number<std::int64_t>);
  command.option("--log-level", log_level_, "report events from this level on (default: off)", "LEVEL")
      .one_of({"debug", "info", "warn", "error", "off"});
  command.last_->group("Log");
  command.option("--log", log_file_, "append the events to this file, level info (default: standard error)", "FILE");
  command.last_->group("Log");
  command.option("--log-format", log_format_, "how events are written", "FORMAT").one_of({"text", "json"});
  command.last_->group("Log");
  return command;
}

const std::atomic<bool>* CommandLine::stop(const char* meanwhile) {
  until_stopped = meanwhile;
  struct sigaction action {};
  action.sa_handler = on_stop;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  struct sigaction hangup {};
  ::sigaction(SIGHUP, nullptr, &hangup);
  if (hangup.sa_handler != SIG_IGN) ::sigaction(SIGHUP, &action, nullptr);  // nohup stays what it is
  return &stop_requested;
}

std::atomic<bool>* CommandLine::hangup() {
  struct sigaction action {};
  action.sa_handler = [](int) { hung_up = true; };
  ::sigaction(SIGHUP, &action, nullptr);
  return &hung_up;
}

std::map<std::string, std::string> CommandLine::take_other_sources() {
  std::map<std::string, std::string> taken;
  const Settings file = config_file.empty() ? Settings{} : read_settings(config_file);
  std::map<std::string, CLI::Option*> options;
  // A verb understands the flags of its command, too.
  for (CLI::App* level = chosen_; level != app_.get(); level = level->get_parent())
    for (CLI::Option* option : level->get_options()) options.emplace(key_of(option), option);
  if (const auto store = options.find("store"); store != options.end() && store->second->count() > 0)
    check_store_argument(store->second->as<std::string>());
  std::vector<std::string> keys;
  for (const auto& [key, option] : options) keys.push_back(key);
  std::set<CLI::Option*> given;
  for (const auto& [key, option] : options) {
    if (option->count() > 0) given.insert(option);
    const char* value = std::getenv(environment_name(key).c_str());
    if (!value || !from_environment(key) || !given.insert(option).second) continue;
    give(option, {value}, environment_name(key));
    taken[key] = environment_name(key);
  }
  for (const auto& [key, values] : file) {
    const auto option = options.find(key);
    if (option == options.end() || key == "config" || key == "help") {
      const std::string near = nearest(key, keys);
      fail(Code::kInvalidArgument, "[config] {}: no setting '{}'{}", config_file, printable(key),
           near.empty()  ? ""
           : near == key ? " for a file: give it on the command line"
                         : ", did you mean '" + near + "'?");
    }
    if (!given.insert(option->second).second) continue;
    give(option->second, values, config_file + ": " + key);
    taken[key] = config_file;
  }
  return taken;
}

void CommandLine::begin_log() const {
  if (log_level_.empty() && log_file_.empty()) return;
  const LogLevel level = log_level_.empty() ? LogLevel::kInfo : parse_log_level(log_level_);
  if (level == LogLevel::kOff) return;
  const LogFormat format = parse_log_format(log_format_);
  if (!log_file_.empty()) return set_log(level, log_to(log_file_, format));
  const bool terminal = ::isatty(STDERR_FILENO) == 1;
  set_log(level, [terminal, write = log_to(STDERR_FILENO, format)](const LogEvent& event) {
    if (terminal) std::fputs("\r\x1b[K", stderr);  // a progress bar may stand there
    write(event);
  });
}

void CommandLine::reopen_log() const {
  if (!logs_to_file()) return;
  try {
    begin_log();
  } catch (const std::exception& error) {
    log_event(LogLevel::kWarn, "log.kept_old", {{"reason", std::string_view(error.what())}});
  }
}

void CommandLine::begin() const {
  if (threads_ > 0) at::set_num_threads(static_cast<int>(threads_));
  if (!out_.empty() && !force_ && std::filesystem::exists(out_))
    fail(Code::kAlreadyExists, "[out] {} exists: choose another file, or --force to replace it", out_);
  if (const int count = processes_led(); count > 1 && !quiet_ && !chosen_->get_option_no_throw("--ranks"))
    std::fputs(fmt::format("recast: each of the {} processes that were started does all of this command; only 'learn' "
                           "and 'lab run' share their work (docs/ranks.md)\n",
                           count)
                   .c_str(),
               stderr);
}

void CommandLine::print(const nlohmann::json& document, const std::function<std::string(const nlohmann::json&)>& text) {
  if (!out_.empty()) write_file_atomically(out_, dump(document));
  if (json_ && out_.empty())
    write_out(dump(document));
  else if (!json_)
    write_out(harmless(text(document)));
}

nlohmann::json CommandLine::describe() const {
  nlohmann::json root = describe_command(*app_);
  root["version"] = kRecastVersion;
  return root;
}

nlohmann::json CommandLine::environment() const {
  // Read by the library, or by the project's own build and tests.
  static const std::set<std::string> kWithoutFlag = {"RECAST_CACHE",         "RECAST_TORCH_DIR", "RECAST_PYTHON",
                                                     "RECAST_SHARED",        "RECAST_GOLDEN",    "RECAST_EFFECTS",
                                                     "RECAST_CLIENTS_PYTHON"};
  std::set<std::string> known;
  for (const CLI::App* command : app_->get_subcommands([](const CLI::App*) { return true; }))
    for (const CLI::Option* option : command->get_options())
      if (from_environment(key_of(option)) && !option->get_positional()) known.insert(key_of(option));
  std::map<std::string, std::string> flags;
  std::vector<std::string> names;
  for (const std::string& key : known) {
    flags[environment_name(key)] = "--" + key;
    names.push_back(environment_name(key));
  }
  nlohmann::json found = nlohmann::json::array();
  for (char** each = environ; *each; ++each) {
    const std::string entry = *each, variable = entry.substr(0, entry.find('='));
    if (!variable.starts_with("RECAST_") || kWithoutFlag.count(variable) > 0) continue;
    const auto flag = flags.find(variable);
    const std::string value = entry.substr(std::min(entry.size(), variable.size() + 1));
    const std::string near = flag == flags.end() ? nearest(variable, names) : "";
    const bool store = variable == "RECAST_STORE" || near == "RECAST_STORE" || value.starts_with("postgres");
    found.push_back({{"variable", printable(variable)},
                     {"value", store ? shown_url(value) : printable(value)},
                     {"flag", flag == flags.end() ? nlohmann::json() : nlohmann::json(flag->second)},
                     {"near", near}});
  }
  return found;
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
         near.empty() ? "" : ", did you mean '" + near + "'?", typed_as(at));
  }
  fail(Code::kInvalidArgument, "[usage] {}; see {} --help", printable(error.what(), 300), typed_as(at));
}

std::map<std::string, std::string> CommandLine::parse(int argc, char** argv) {
  try {
    app_->parse(argc, argv);
  } catch (const CLI::Success&) {
    throw;
  } catch (const CLI::ParseError& error) {
    usage_error(error);
  }
  return take_other_sources();
}

std::string CommandLine::less_memory() const {
  std::vector<std::string> flags;
  for (const char* flag :
       {"--batch-size", "--templates", "--sets", "--heal-batch", "--images", "--image-size", "--jobs"})
    if (chosen_ && chosen_->get_option_no_throw(flag)) flags.emplace_back(flag);
  std::string out;
  for (std::size_t i = 0; i < flags.size(); ++i) out += (i == 0 ? "" : i + 1 < flags.size() ? ", " : " or ") + flags[i];
  return out;
}

void CommandLine::report(const Failure& failure) const {
  if (json_) {
    std::fputs(dump({{"error", {{"code", name(failure.code)}, {"message", failure.message}}}}).c_str(), stderr);
    return;
  }
  // What was typed wrongly is explained where it stands; the other codes have a page.
  const bool explained = failure.code == Code::kCancelled || exit_status(failure.code) == 2;
  const std::string code = explained ? "" : fmt::format(" ({})", name(failure.code));
  // One line, whatever the names of files and settings in it hold.
  std::fputs(("recast: " + printable(failure.message, kMaxMessageBytes) + code + "\n").c_str(), stderr);
}

int CommandLine::finish(const std::function<void()>& work) {
  const Stopwatch watch;
  try {
    work();
    log_event(LogLevel::kInfo, "command.done", {{"ms", watch.ms()}});
    return status_;
  } catch (const CLI::Success& success) {
    return app_->exit(success);
  } catch (const ReaderGone&) {
    return 128 + SIGPIPE;
  } catch (...) {
    const Failure failure = failure_at_hand(less_memory());
    log_event(failure.code == Code::kCancelled ? LogLevel::kWarn : LogLevel::kError, "command.failed",
              {{"code", name(failure.code)}, {"message", failure.message}, {"ms", watch.ms()}});
    report(failure);
    return failure.code == Code::kCancelled ? stopped_status() : exit_status(failure.code);
  }
}

int CommandLine::run(int argc, char** argv) {
  command_ = typed(argc, argv);
  for (int i = 1; i < argc; ++i)
    if (std::string_view(argv[i]) == "--json") json_ = true;  // so that a usage error is JSON as well
  return finish([&] {
    const std::map<std::string, std::string> taken = parse(argc, argv);
    begin_log();
    log_event(LogLevel::kInfo, "command.began",
              {{"command", command_}, {"version", kRecastVersion}, {"pid", ::getpid()}});
    for (const auto& [setting, origin] : taken)
      log_event(LogLevel::kDebug, "setting.taken", {{"setting", setting}, {"from", origin}});
    begin();
    note_stage("running");
    work_();
  });
}

}  // namespace recast
