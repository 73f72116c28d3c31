#include "recast/run/provenance.h"

#include "recast/base/utc.h"
#include "recast/format/printable.h"
#include "recast/run/machine.h"

namespace recast {

nlohmann::json provenance(const std::string& command, double seconds) {
  return {{"command", printable(command, 4096)},
          {"seconds", seconds},
          {"machine", machine()},
          {"versions", versions()},
          {"finished_utc", utc_now()}};
}

}  // namespace recast
