#pragma once
#include <filesystem>

namespace recast {

/// Absolute, without "..", "." and a slash at the end: one folder has one name.
std::filesystem::path settled(const std::filesystem::path& path);

}  // namespace recast
