#include <fmt/format.h>

#include <memory>

#include "command_line.h"
#include "recast/run/inspect_directory.h"
#include "table.h"

namespace recast {
namespace {

std::string text(const nlohmann::json& report) {
  Table slots({"slot", "kind", "shape", "bank"});
  for (const auto& slot : report["slots"]) {
    if (slot["kind"] == "vector") continue;  // hundreds of biases and gains: in the JSON document
    slots.add({slot["name"].get<std::string>(), slot["kind"].get<std::string>(), slot["shape"].dump(),
               slot["group"].is_null() ? "" : slot["group"].get<std::string>()});
  }
  std::string out = slots.text();
  if (!report["groups"].empty()) {
    Table groups({"bank", "templates", "shape", "bytes", "slots"});
    for (const auto& group : report["groups"])
      groups.add({group["name"].get<std::string>(), std::to_string(group["templates"].get<std::int64_t>()),
                  group["shape"].dump(), std::to_string(group["bytes"].get<std::int64_t>()), joined(group["slots"])});
    out += "\n" + groups.text();
  }
  const auto& bytes = report["bytes"];
  out += fmt::format("\n{}: {}, {} parameters, features of width {}\n", report["directory"].get<std::string>(),
                     report["config"]["architecture"].get<std::string>(), report["parameters"].get<std::int64_t>(),
                     report["feature_width"].get<std::int64_t>());
  out += fmt::format("backbone {}, bank {}, {} tasks {}\n", bytes_text(bytes["backbone"].get<double>()),
                     bytes_text(bytes["bank"].get<double>()), report["tasks"].get<std::int64_t>(),
                     bytes_text(bytes["tasks"].get<double>()));
  if (report["coefficients"].get<std::int64_t>() > 0)
    out += fmt::format("coefficients of a task at grain slot: {}\n", report["coefficients"].get<std::int64_t>());
  return out + "fingerprint " + report["fingerprint"].get<std::string>() + "\n";
}

}  // namespace

void add_inspect(CommandLine& line) {
  auto directory = std::make_shared<std::string>();
  Command& command =
      line.add("inspect", "slots, groups, counts, bytes and fingerprint of a model directory", "recast inspect model");
  command.option("dir", *directory, "the model directory").required();
  command.on([&line, directory] { line.print(inspect_directory(ModelDirectory::open(*directory, true)), text); });
}

}  // namespace recast
