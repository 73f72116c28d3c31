#pragma once
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace recast {

/// Nested settings as they stand in a YAML file, in its order: a value, a list of values, or a map. Every value is
/// text; what it means, whoever reads it decides.
struct SettingsTree {
  enum class Kind { kValue, kList, kMap };
  Kind kind = Kind::kMap;  ///< a key without a value counts as an empty map
  std::string value;
  std::vector<std::string> list;
  std::vector<std::pair<std::string, SettingsTree>> map;

  /// The entry of a map; null: none.
  const SettingsTree* find(std::string_view key) const;
  SettingsTree* find(std::string_view key);
  /// Keys of a map, in order.
  std::vector<std::string> keys() const;
  bool operator==(const SettingsTree&) const = default;
};

/// Reads maps, lists of values and values; at most six levels, 20,000 values (anchors repeat what they name). No tags.
/// Throws kNotFound, kDataCorruption (not YAML, with its line, or not UTF-8), kInvalidArgument (a key twice, lists of
/// lists or maps, too deep), kExhausted, kUnsupported (an escape that is not read).
SettingsTree read_settings_tree(const std::filesystem::path& file);
/// The same from memory; `origin` names the text in messages.
SettingsTree parse_settings_tree(const std::string& text, const std::string& origin);
/// YAML that reads back as this map.
std::string settings_yaml(const SettingsTree& tree);

}  // namespace recast
