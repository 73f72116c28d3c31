#pragma once
#include <nlohmann/json.hpp>
#include <string>

namespace recast {

/// Scripts that complete commands, flags and their values, from CommandLine::describe().
std::string bash_completion(const nlohmann::json& program);
std::string zsh_completion(const nlohmann::json& program);
std::string fish_completion(const nlohmann::json& program);

}  // namespace recast
