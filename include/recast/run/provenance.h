#pragma once
#include <nlohmann/json.hpp>
#include <string>

namespace recast {

/// What every report says of itself: {command: as typed, seconds, machine, versions, finished_utc}.
nlohmann::json provenance(const std::string& command, double seconds);

}  // namespace recast
