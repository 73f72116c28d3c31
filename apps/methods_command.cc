#include <fmt/format.h>

#include <memory>

#include "command_line.h"
#include "recast/run/describe_methods.h"
#include "table.h"

namespace recast {
namespace {

std::string overview_text(const nlohmann::json& document) {
  Table methods({"plug-in", "roles", "options", "paper", "what it does"});
  for (const auto& m : document["methods"]) {
    std::string options;
    for (const auto& o : m["options"]) options += (options.empty() ? "" : " ") + o["name"].get<std::string>();
    methods.add({m["name"].get<std::string>(), joined(m["roles"]), options, m["paper"].get<std::string>(),
                 m["summary"].get<std::string>()});
  }
  Table recipes({"recipe", "epochs", "batch", "plug-ins", "what it does"});
  for (const auto& r : document["recipes"])
    recipes.add({r["name"].get<std::string>(), std::to_string(r["epochs"].get<std::int64_t>()),
                 std::to_string(r["batch_size"].get<std::int64_t>()), joined(r["plugs"], " + "),
                 r["summary"].get<std::string>()});
  return methods.text() + "\n" + recipes.text();
}

std::string method_text(const nlohmann::json& m) {
  std::string out = fmt::format("{}: {}\npaper: {}\nroles: {}\nclaims: {}\n", m["name"].get<std::string>(),
                                m["summary"].get<std::string>(), m["paper"].get<std::string>(), joined(m["roles"]),
                                m["claims"].empty() ? "none" : joined(m["claims"]));
  if (!m["needs"].empty()) out += "needs: " + joined(m["needs"]) + "\n";
  if (!m["suggested_rate"].is_null())
    out += fmt::format("suggested learning rate: {}\n", m["suggested_rate"].get<double>());
  if (m["options"].empty()) return out + "options: none\n";
  Table options({"option", "type", "range", "default", "what it does"});
  for (const auto& o : m["options"])
    options.add({o["name"].get<std::string>(), o["type"].get<std::string>(), o["range"].get<std::string>(),
                 o["default"].get<std::string>(), o["help"].get<std::string>()});
  return out + "\n" + options.text();
}

}  // namespace

void add_methods(CommandLine& line) {
  auto name = std::make_shared<std::string>();
  Command& command =
      line.add("methods", "the plug-ins of this program, with their options and papers", "recast methods recast");
  command.option("name", *name, "one plug-in (default: all)");
  command.on([&line, name] {
    line.print(describe_methods(*name), [&](const nlohmann::json& document) {
      return name->empty() ? overview_text(document) : method_text(document["methods"][0]);
    });
  });
}

}  // namespace recast
