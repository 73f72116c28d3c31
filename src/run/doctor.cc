#include "doctor.h"

#include "recast/run/doctor.h"

namespace recast {
namespace {

void examine_environment(const nlohmann::json& environment, Findings& findings) {
  for (const auto& each : environment) {
    const std::string text =
        fmt::format("{}={}", each["variable"].get<std::string>(), each["value"].get<std::string>());
    if (!each["flag"].is_null()) {
      findings.ok("setting", text + " sets " + each["flag"].get<std::string>());
      continue;
    }
    const std::string near = each["near"];
    findings.warn("setting", text + " sets nothing",
                  near.empty() ? "unset it; flags and their variables: recast COMMAND --help"
                               : "unset it, or did you mean " + near + "?");
  }
}

}  // namespace

nlohmann::json doctor(const std::filesystem::path& directory, const std::string& store,
                      const nlohmann::json& environment) {
  Findings findings;
  nlohmann::json report = examine_machine(findings);
  examine_environment(environment, findings);
  report["environment"] = environment;
  report["model"] = directory.empty() ? nlohmann::json() : examine_model(directory, store, findings);
  report["checks"] = findings.list();
  report["healthy"] = findings.healthy();
  return report;
}

}  // namespace recast
