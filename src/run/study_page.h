#pragma once
#include <nlohmann/json.hpp>
#include <string>

namespace recast {

/// The document of compare_solvers() or sweep_mimicry() as one self-contained page with tables and plots.
std::string study_page(const nlohmann::json& document);

}  // namespace recast
