#pragma once
#include <nlohmann/json.hpp>

#include "recast/mimic/mimicry.h"

namespace recast {

/// {relative_error: of all slots together, worst_relative_error, mean_cosine, worst_cosine,
///  slots: [{slot, relative_error, cosine}]}.
nlohmann::json figures(const std::vector<SlotFidelity>& slots);

}  // namespace recast
