#include <memory>

#include "command_line.h"
#include "completion.h"
#include "manual.h"
#include "recast/run/describe_methods.h"

namespace recast {
namespace {

/// Names that a flag or positional takes and that the parser does not know, since plug-ins and recipes register them.
void add_names(nlohmann::json& option, const nlohmann::json& described) {
  const std::string name = option["names"][0];
  const char* list = name == "--recipe" ? "recipes" : name == "--plug" || name == "name" ? "methods" : nullptr;
  if (!list || !option["choices"].empty()) return;
  for (const auto& each : described[list]) option["choices"].push_back(each["name"]);
}

nlohmann::json with_names(nlohmann::json program) {
  const nlohmann::json described = describe_methods("");
  for (auto& command : program["commands"])
    for (const char* list : {"options", "positionals"})
      for (auto& option : command[list]) add_names(option, described);
  return program;
}

}  // namespace

void add_completion(CommandLine& line) {
  auto shell = std::make_shared<std::string>();
  Command& command = line.add("completion", "a script that completes commands, for a shell",
                              "recast completion bash > /etc/bash_completion.d/recast");
  command.option("shell", *shell, "bash, zsh or fish", "SHELL").required().one_of({"bash", "zsh", "fish"});
  command.on([&line, shell] {
    const nlohmann::json program = with_names(line.describe());
    line.print_text(*shell == "bash"  ? bash_completion(program)
                    : *shell == "zsh" ? zsh_completion(program)
                                      : fish_completion(program));
  });
}

void add_man(CommandLine& line) {
  Command& command = line.add("man", "this program's manual page", "recast man | man -l -");
  command.on([&line] { line.print_text(manual_page(line.describe())); });
}

}  // namespace recast
