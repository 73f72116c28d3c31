#pragma once
// What stands in an access log.
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/becomes_true.h"

namespace recast {

/// The lines of a file; one that is no JSON is null.
inline std::vector<nlohmann::json> access_lines(const std::filesystem::path& file) {
  std::vector<nlohmann::json> lines;
  std::ifstream in(file, std::ios::binary);
  for (std::string line; std::getline(in, line);) {
    nlohmann::json read = nlohmann::json::parse(line, nullptr, false);
    lines.push_back(read.is_discarded() ? nlohmann::json() : std::move(read));
  }
  return lines;
}

/// Waits until there are so many: they are written behind the answer.
inline std::vector<nlohmann::json> wait_for_lines(const std::filesystem::path& file, std::size_t count) {
  becomes_true([&] { return access_lines(file).size() >= count; });
  return access_lines(file);
}

}  // namespace recast
