#pragma once
#include <CLI/CLI.hpp>
#include <atomic>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "recast/run/settings.h"

namespace recast {

/// The program's commands and the flags that they share. One object in main().
class CommandLine {
 public:
  CommandLine();

  /// A new command with the shared flags. `example`: shown by --help. own_out: it has an --out of its own.
  CLI::App* add(const std::string& name, const std::string& summary, const std::string& example, bool own_out = false);
  /// What to run when `command` was chosen.
  void on(CLI::App* command, std::function<void()> run);

  /// Parses and runs. Returns the exit status; nothing escapes.
  int run(int argc, char** argv);

  // For commands, once they run.
  bool json() const { return json_; }
  bool quiet() const { return quiet_; }
  bool verbose() const { return verbose_; }
  bool force() const { return force_; }
  /// As typed.
  const std::string& command() const { return command_; }
  /// Set by the first Ctrl-C; the second one ends the program. Only commands that ask for it are stopped softly.
  const std::atomic<bool>* stop();
  /// The one document of a command: as JSON with --json or --out, else (or beside --out) as text.
  void print(const nlohmann::json& document, const std::function<std::string(const nlohmann::json&)>& text);
  /// Text as it is.
  void print_text(const std::string& text);

  /// Where a command reads `--config FILE` from; empty: it has none.
  std::string config_file;

 private:
  void parse(int argc, char** argv);
  void add_shared_flags(CLI::App* command, bool own_out);
  /// Options that the command line leaves open are taken from RECAST_* and then from the config file.
  void take_other_sources();
  void begin() const;
  [[noreturn]] void usage_error(const CLI::ParseError& error);
  int report(const std::string& code, const std::string& message, int status) const;
  int finish(const std::function<void()>& work);

  CLI::App app_;
  CLI::App* chosen_ = nullptr;
  std::function<void()> work_;
  bool json_ = false, quiet_ = false, verbose_ = false, force_ = false;
  int threads_ = 0;
  std::string out_, command_;
};

void add_import(CommandLine&);
void add_mimic(CommandLine&);
void add_learn(CommandLine&);
void add_eval(CommandLine&);
void add_predict(CommandLine&);
void add_tasks(CommandLine&);
void add_inspect(CommandLine&);
void add_methods(CommandLine&);
void add_doctor(CommandLine&);

/// "a, b, c".
std::string joined(const nlohmann::json& texts, const char* separator = ", ");

}  // namespace recast
