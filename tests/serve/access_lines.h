#pragma once
// What stands in an access log.
#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

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
  for (int i = 0; i < 1000 && access_lines(file).size() < count; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  return access_lines(file);
}

}  // namespace recast
