#include <fmt/format.h>

#include <memory>

#include "command_line.h"
#include "recast/run/doctor.h"

namespace recast {
namespace {

std::string doctor_text(const nlohmann::json& report) {
  std::string out = fmt::format("recast {}, PyTorch {}\n", report["versions"]["recast"].get<std::string>(),
                                report["versions"]["torch"].get<std::string>());
  std::size_t warnings = 0, failures = 0;
  for (const auto& check : report["checks"]) {
    const std::string verdict = check["verdict"], remedy = check["remedy"];
    warnings += verdict == "warn";
    failures += verdict == "fail";
    out += fmt::format("{:<5} {:<10} {}\n",
                       verdict == "ok"     ? "OK"
                       : verdict == "warn" ? "WARN"
                                           : "FAIL",
                       check["check"].get<std::string>(), check["text"].get<std::string>());
    if (!remedy.empty()) out += fmt::format("{:<17}what to do: {}\n", "", remedy);
  }
  return out + (failures + warnings == 0 ? "nothing wrong was found\n"
                                         : fmt::format("{} failures, {} warnings\n", failures, warnings));
}

}  // namespace

void add_doctor(CommandLine& line) {
  auto directory = std::make_shared<std::string>(), store = std::make_shared<std::string>();
  Command& command =
      line.add("doctor", "check this machine and, if named, a model directory; changes nothing", "recast doctor model");
  command.option("dir", *directory, "a model directory to check as well: files, store, every task, runs");
  command.store(*store);
  command.on([&line, directory, store] {
    const nlohmann::json report = doctor(*directory, *store, line.environment());
    line.print(report, doctor_text);
    if (!report["healthy"].get<bool>()) line.end_with(1);
  });
}

}  // namespace recast
