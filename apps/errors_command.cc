#include <fmt/format.h>

#include <memory>

#include "command_line.h"
#include "recast/base/error_table.h"
#include "table.h"

namespace recast {
namespace {

struct ErrorsFlags {
  std::string code;
  bool markdown = false;
};

nlohmann::json describe(const ErrorEntry& entry) {
  nlohmann::json causes = nlohmann::json::array();
  for (const ErrorCause& cause : entry.causes) causes.push_back({{"cause", cause.cause}, {"remedy", cause.remedy}});
  return {{"code", entry.name},        {"exit_status", entry.exit_status}, {"http_status", entry.http_status},
          {"python", entry.exception}, {"meaning", entry.meaning},         {"causes", causes}};
}

nlohmann::json chosen(const std::string& code) {
  nlohmann::json found = nlohmann::json::array();
  std::vector<std::string> names;
  for (const ErrorEntry& entry : error_table()) {
    names.emplace_back(entry.name);
    if (code.empty() || code == entry.name) found.push_back(describe(entry));
  }
  if (!found.empty()) return {{"errors", found}};
  const std::string near = nearest(code, names);
  fail(Code::kNotFound, "[errors] no code '{}'{}", code,
       near.empty() ? "; 'recast errors' lists them" : ", did you mean '" + near + "'?");
}

std::string errors_text(const nlohmann::json& document) {
  const nlohmann::json& errors = document["errors"];
  if (errors.size() == 1) {
    const nlohmann::json& entry = errors[0];
    std::string out = fmt::format("{}: {} Exit status {}.\n", entry["code"].get<std::string>(),
                                  entry["meaning"].get<std::string>(), entry["exit_status"].get<int>());
    for (const auto& cause : entry["causes"])
      out += fmt::format("\n- {}\n  {}\n", cause["cause"].get<std::string>(), cause["remedy"].get<std::string>());
    return out;
  }
  Table table({"code", "exit status", "meaning"});
  for (const auto& entry : errors)
    table.add({entry["code"].get<std::string>(), std::to_string(entry["exit_status"].get<int>()),
               entry["meaning"].get<std::string>()});
  return table.text() + "\n'recast errors CODE' tells causes and remedies.\n";
}

}  // namespace

void add_errors(CommandLine& line) {
  auto flags = std::make_shared<ErrorsFlags>();
  Command& command =
      line.add("errors", "what the codes of errors mean and what helps", "recast errors data_corruption");
  command.option("code", flags->code, "one code (default: all)", "CODE");
  command.flag("--markdown", flags->markdown, "print the page docs/errors.md");
  command.on([&line, flags] {
    if (flags->markdown) return line.print_text(error_page());
    line.print(chosen(flags->code), errors_text);
  });
}

}  // namespace recast
