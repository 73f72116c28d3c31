#include "manual.h"

#include <fmt/format.h>

#include <set>

#include "recast/base/error_table.h"

namespace recast {
namespace {

/// Text as roff takes it: backslashes, and points and quotes where a line begins, mean something to it.
std::string roff(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool begins = i == 0 || text[i - 1] == '\n';
    if (begins && (text[i] == '.' || text[i] == '\'')) out += "\\&";
    if (text[i] == '\\')
      out += "\\e";
    else if (text[i] == '-')
      out += "\\-";
    else
      out += text[i];
  }
  return out;
}

std::string tag(const nlohmann::json& option) {
  std::string names;
  for (const auto& name : option["names"]) names += (names.empty() ? "" : ", ") + name.get<std::string>();
  std::string out = "\\fB" + roff(names) + "\\fR";
  if (!option["choices"].empty()) {
    std::string choices;
    for (const auto& choice : option["choices"]) choices += (choices.empty() ? "" : "|") + choice.get<std::string>();
    return out + " " + roff(choices);
  }
  const std::string value = option["value"];
  const bool positional = !names.starts_with('-');
  return value.empty() || positional ? out : out + " \\fI" + roff(value) + "\\fR";
}

std::string entries(const nlohmann::json& options, const std::set<std::string>& leave_out) {
  std::string out;
  for (const auto& option : options) {
    if (leave_out.count(option["names"].back()) > 0) continue;
    const std::string preset = option["default"];
    out += ".TP\n" + tag(option) + "\n" + roff(option["help"].get<std::string>()) +
           (preset.empty() ? "" : " (default: " + roff(preset) + ")") + "\n";
  }
  return out;
}

std::set<std::string> names_of(const nlohmann::json& options) {
  std::set<std::string> names;
  for (const auto& option : options) names.insert(option["names"].back().get<std::string>());
  return names;
}

std::string synopsis(const std::string& path, const nlohmann::json& command) {
  std::string out = "\\fBrecast " + roff(path) + "\\fR";
  for (const auto& positional : command["positionals"]) {
    const std::string name = "\\fI" + roff(positional["names"][0].get<std::string>()) + "\\fR";
    out += positional["required"].get<bool>() ? " " + name : " [" + name + "]";
  }
  return out + " [options]\n";
}

std::string section(const nlohmann::json& command, const std::set<std::string>& shared) {
  const std::string name = command["name"];
  std::string out = ".SS recast " + roff(name) + "\n" + roff(command["summary"].get<std::string>()) + ".\n.PP\n" +
                    synopsis(name, command);
  out += entries(command["positionals"], {}) + entries(command["options"], shared);
  for (const auto& verb : command["commands"]) {
    const std::string path = name + " ... " + verb["name"].get<std::string>();
    out += ".TP\n" + synopsis(path, verb) + roff(verb["summary"].get<std::string>()) + "\n";
    const std::string inner = entries(verb["positionals"], {}) + entries(verb["options"], shared);
    if (!inner.empty()) out += ".RS\n" + inner + ".RE\n";
  }
  if (command["example"] != "")
    out += ".PP\nExample:\n.PP\n.EX\n" + roff(command["example"].get<std::string>()) + "\n.EE\n";
  return out;
}

/// The options that every command has: they are told once.
std::set<std::string> options_of_all(const nlohmann::json& commands) {
  std::set<std::string> shared = names_of(commands[0]["options"]);
  for (const auto& command : commands) {
    const std::set<std::string> here = names_of(command["options"]);
    std::erase_if(shared, [&](const std::string& name) { return here.count(name) == 0; });
  }
  return shared;
}

}  // namespace

std::string manual_page(const nlohmann::json& program) {
  const nlohmann::json& commands = program["commands"];
  const std::set<std::string> shared = options_of_all(commands);
  std::string out = fmt::format(".\\\" Made by 'recast man'.\n.TH RECAST 1 \"\" \"recast {}\" \"User Commands\"\n",
                                program["version"].get<std::string>());
  out += ".SH NAME\nrecast \\- one frozen backbone, any number of tasks, a handful of numbers each\n";
  out += ".SH SYNOPSIS\n\\fBrecast\\fR \\fICOMMAND\\fR [options]\n.SH COMMANDS\n";
  for (const auto& command : commands) out += section(command, shared);
  out += ".SH OPTIONS OF EVERY COMMAND\n";
  for (const auto& option : commands[0]["options"])
    if (shared.count(option["names"].back()) > 0) out += entries(nlohmann::json::array({option}), {});
  out +=
      ".SH ENVIRONMENT\nWhat a flag leaves open is taken from the variable RECAST_ and the flag's long name in "
      "capitals "
      "with \\fB_\\fR for \\fB\\-\\fR, as in \\fBRECAST_BATCH_SIZE\\fR, then from the file given with "
      "\\fB\\-\\-config\\fR.\n";
  out += ".SH EXIT STATUS\n.TP\n0\nsuccess\n";
  for (const ErrorEntry& entry : error_table())
    out += fmt::format(".TP\n{}\n{}: {}\n", entry.exit_status, roff(std::string(entry.name)),
                       roff(std::string(entry.meaning)));
  return out + ".PP\n\\fBrecast errors\\fR \\fICODE\\fR tells causes and remedies.\n";
}

}  // namespace recast
