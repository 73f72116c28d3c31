#pragma once
#include <nlohmann/json.hpp>
#include <string>

namespace recast {

/// The manual page recast(1) in roff, from CommandLine::describe().
std::string manual_page(const nlohmann::json& program);

}  // namespace recast
