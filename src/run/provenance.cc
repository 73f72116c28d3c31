#include "recast/run/provenance.h"

#include <fmt/chrono.h>

#include <ctime>

#include "recast/format/printable.h"
#include "recast/run/machine.h"

namespace recast {

nlohmann::json provenance(const std::string& command, double seconds) {
  return {{"command", printable(command, 4096)},
          {"seconds", seconds},
          {"machine", machine()},
          {"versions", versions()},
          {"finished_utc", fmt::format("{:%FT%TZ}", fmt::gmtime(std::time(nullptr)))}};
}

}  // namespace recast
