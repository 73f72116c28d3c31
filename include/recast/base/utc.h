#pragma once
#include <string>

namespace recast {

/// The time now in whole seconds, as it stands in files: "2026-01-31T23:59:59Z".
std::string utc_now();

}  // namespace recast
