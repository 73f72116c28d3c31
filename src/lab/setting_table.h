#pragma once
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "recast/base/error.h"
#include "recast/base/options.h"
#include "recast/format/printable.h"
#include "recast/run/settings_tree.h"

namespace recast {

/// What an entry of a lab file is called in messages: "lab.yaml: recipes.head".
using Place = std::string;

/// The one value, or the list of values, that stands at a key. Throws kInvalidArgument.
std::string value_at(const SettingsTree& entry, const Place& place);
std::vector<std::string> values_at(const SettingsTree& entry, const Place& place);
[[noreturn]] void misfit(const Place& place, const std::string& value, const std::string& expected);
/// Throws kInvalidArgument with the nearest of `known`.
[[noreturn]] void unknown_key(const Place& place, const std::string& key, const std::vector<std::string>& known);
/// The same of a name that the file does not give.
[[noreturn]] void unknown_name(const Place& place, const std::string& name, const std::vector<std::string>& known);

std::int64_t count_from(const std::string& text, const Place& place);
std::uint64_t seed_from(const std::string& text, const Place& place);
double number_from(const std::string& text, const Place& place);
bool flag_from(const std::string& text, const Place& place);

/// The keys that an entry of a lab file may have, and what each does.
class SettingTable {
 public:
  using Take = std::function<void(const SettingsTree& entry, const Place& place)>;
  void add(std::string key, Take take);
  bool has(const std::string& key) const;
  std::vector<std::string> keys() const;
  /// Takes the keys of a map one by one. Throws kInvalidArgument: an unknown key with the nearest; what they throw.
  void read(const SettingsTree& map, const Place& place) const;
  /// The same of one key that is known.
  void take(const std::string& key, const SettingsTree& entry, const Place& place) const;

 private:
  std::vector<std::pair<std::string, Take>> takes_;
};

// What a key of a table often does.
SettingTable::Take into(std::string& target);
SettingTable::Take into(std::vector<std::string>& target);
SettingTable::Take into(std::filesystem::path& target);
SettingTable::Take into(std::int64_t& target);
SettingTable::Take into(std::uint64_t& target);
SettingTable::Take into(double& target);
SettingTable::Take into(bool& target);
SettingTable::Take into(std::optional<std::int64_t>& target);
SettingTable::Take into(std::optional<double>& target);
SettingTable::Take into(std::optional<std::string>& target);
/// "bf16" or "fp32".
SettingTable::Take number_format(std::function<void(bool bf16)> set);

}  // namespace recast
