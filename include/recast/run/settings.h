#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace recast {

/// A larger file is no config.
inline constexpr std::uint64_t kMaxConfigBytes = 1 << 20;

/// Settings as text: key (a flag's long name without dashes) and its values, in the order of the file.
using Settings = std::vector<std::pair<std::string, std::vector<std::string>>>;

/// Reads `key: value` and `key: [value, ...]` lines of a YAML file. No tags, anchors or nesting.
/// Throws kNotFound, kDataCorruption (not YAML, with its line, or not UTF-8), kInvalidArgument (a key twice, nesting),
/// kExhausted.
Settings read_settings(const std::filesystem::path& file);
/// The same from memory; `origin` names the text in messages.
Settings parse_settings(const std::string& text, const std::string& origin);
/// The YAML text that reads back as these settings: one value as a scalar, several or none as a list.
/// Throws kUnsupported: a value is not UTF-8, so it could not be read back.
std::string settings_yaml(const Settings& settings);

}  // namespace recast
