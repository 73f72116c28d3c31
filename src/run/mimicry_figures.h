#pragma once
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "recast/mimic/mimicry.h"
#include "recast/train/learn.h"

namespace recast {

/// {relative_error: of all slots together, worst_relative_error, mean_cosine, worst_cosine,
///  slots: [{slot, relative_error, cosine}]}.
nlohmann::json figures(const std::vector<SlotFidelity>& slots);

/// For mimic(): its steps as a stage of the solver's name; nothing without a listener.
std::function<void(std::int64_t done, std::int64_t total)> report_steps(Listener* listener, const std::string& solver);

}  // namespace recast
