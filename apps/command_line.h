#pragma once
#include <atomic>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "recast/base/error.h"
#include "recast/run/failure.h"

namespace CLI {
class App;
class Option;
class ParseError;
}  // namespace CLI

namespace recast {

class CommandLine;

/// A command, or a verb below one, and its flags. The parser's own header stays out of the files that describe
/// commands, since it takes longer to compile than they do.
class Command {
 public:
  /// `flags`: "--image-size", or "images" for a positional. `type`: how help calls its value.
  /// T: std::string, std::int64_t, std::uint64_t, a vector of strings, or an optional of string, std::int64_t or
  /// double.
  template <class T>
  Command& option(const std::string& flags, T& target, const std::string& help, const std::string& type = {});
  /// Three numbers: "0.5,0.5,0.5".
  Command& triple(const std::string& flags, std::vector<double>& target, const std::string& help,
                  const std::string& type);
  Command& flag(const std::string& flags, bool& target, const std::string& help);
  /// `--store URL`: the task store of every command that has one. Empty: the model directory's own.
  Command& store(std::string& url);
  /// Of the option added last.
  Command& required();
  Command& one_of(std::initializer_list<std::string> values);

  /// A verb below this command, which goes on understanding this command's flags.
  Command& add(const std::string& name, const std::string& summary);
  /// What to run when this command is chosen.
  void on(std::function<void()> run);

 private:
  friend class CommandLine;
  Command(CommandLine& line, CLI::App* app) : line_(line), app_(app) {}
  CommandLine& line_;
  CLI::App* app_;
  CLI::Option* last_ = nullptr;
};

/// The program's commands and the flags that they share. One object in main().
class CommandLine {
 public:
  CommandLine();
  ~CommandLine();

  /// A new command with the shared flags. `example`: shown by --help. own_out: it has --out and --force of its own.
  Command& add(const std::string& name, const std::string& summary, const std::string& example, bool own_out = false);
  /// Parses and runs. Returns the exit status; nothing escapes.
  int run(int argc, char** argv);

  // For commands, once they run.
  bool quiet() const { return quiet_; }
  bool verbose() const { return verbose_; }
  bool force() const { return force_; }
  /// As typed.
  const std::string& command() const { return command_; }
  /// Set by the first Ctrl-C, SIGTERM or SIGHUP; the second one ends the program. Only commands that ask for it are
  /// stopped softly. `meanwhile`: what is still done, shown at the first one; lives as long as the program.
  const std::atomic<bool>* stop(const char* meanwhile = "stopping after this step");
  /// Set by SIGHUP, which from now on stops nothing, nohup or not. Whoever looks clears it.
  std::atomic<bool>* hangup();
  /// Whether events go to the file of --log.
  bool logs_to_file() const { return !log_file_.empty(); }
  /// Opens the file of --log anew, for who rotates it by renaming; where that cannot be the old one goes on (event
  /// log.kept_old).
  void reopen_log() const;
  /// The one document of a command: as JSON with --json or --out, else (or beside --out) as text.
  void print(const nlohmann::json& document, const std::function<std::string(const nlohmann::json&)>& text);
  /// Text as it is.
  void print_text(const std::string& text);
  /// Ends the command with this status although nothing failed.
  void end_with(int status) { status_ = status; }

  /// {name, summary, version, commands: [{name, summary, example, positionals, options, commands}]}; positionals and
  /// options are {names, value: how help calls it or empty for a flag, choices, default, required, help}.
  nlohmann::json describe() const;
  /// The variables RECAST_* of the environment: [{variable, value, flag: the one that it sets or null, near}].
  nlohmann::json environment() const;

  /// Where a command reads `--config FILE` from; empty: it has none.
  std::string config_file;

 private:
  friend class Command;
  Command& keep(CLI::App* app);
  std::map<std::string, std::string> parse(int argc, char** argv);
  /// Options that the command line leaves open are taken from RECAST_* and then from the config file: by option, where
  /// it came from.
  std::map<std::string, std::string> take_other_sources();
  void begin() const;
  void begin_log() const;
  [[noreturn]] void usage_error(const CLI::ParseError& error);
  /// Flags of the chosen command by which it takes less memory: "--templates, --sets or --image-size".
  std::string less_memory() const;
  void report(const Failure& failure) const;
  int finish(const std::function<void()>& work);

  std::unique_ptr<CLI::App> app_;
  std::vector<std::unique_ptr<Command>> commands_;
  CLI::App* chosen_ = nullptr;
  std::function<void()> work_;
  bool json_ = false, quiet_ = false, verbose_ = false, force_ = false;
  std::int64_t threads_ = 0;
  int status_ = 0;
  std::string out_, command_, log_level_, log_file_, log_format_ = "text";
};

void add_import(CommandLine&);
void add_mimic(CommandLine&);
void add_learn(CommandLine&);
void add_stream(CommandLine&);
void add_eval(CommandLine&);
void add_compare(CommandLine&);
void add_lab(CommandLine&);
void add_predict(CommandLine&);
void add_tasks(CommandLine&);
void add_inspect(CommandLine&);
void add_report(CommandLine&);
void add_serve(CommandLine&);
void add_token(CommandLine&);
void add_export(CommandLine&);
void add_methods(CommandLine&);
void add_doctor(CommandLine&);
void add_errors(CommandLine&);
void add_completion(CommandLine&);
void add_man(CommandLine&);

/// The command as it was typed, for records and reports: "recast learn model ...".
std::string typed(int argc, char** argv);

/// "a, b, c", each as printable() shows it.
std::string joined(const nlohmann::json& texts, const char* separator = ", ");

}  // namespace recast
