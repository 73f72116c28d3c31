#include "setting_table.h"

#include <charconv>

namespace recast {
namespace {

std::string joined(const std::vector<std::string>& words) { return fmt::format("{}", fmt::join(words, ", ")); }

}  // namespace

std::string value_at(const SettingsTree& entry, const Place& place) {
  if (entry.kind != SettingsTree::Kind::kValue)
    fail(Code::kInvalidArgument, "[lab] {} must be one value", printable(place, 300));
  return entry.value;
}

std::vector<std::string> values_at(const SettingsTree& entry, const Place& place) {
  if (entry.kind == SettingsTree::Kind::kMap)
    fail(Code::kInvalidArgument, "[lab] {} must be a value or a list of values", printable(place, 300));
  return entry.kind == SettingsTree::Kind::kValue ? std::vector{entry.value} : entry.list;
}

void misfit(const Place& place, const std::string& value, const std::string& expected) {
  fail(Code::kInvalidArgument, "[lab] {} must be {}, got '{}'", printable(place, 300), expected, printable(value));
}

void unknown_key(const Place& place, const std::string& key, const std::vector<std::string>& known) {
  const std::string near = nearest(key, known);
  fail(Code::kInvalidArgument, "[lab] {}: unknown key '{}'{}", printable(place, 300), printable(key),
       near.empty() ? "; it takes " + joined(known) : ", did you mean '" + near + "'?");
}

void unknown_name(const Place& place, const std::string& name, const std::vector<std::string>& known) {
  const std::string near = nearest(name, known);
  fail(Code::kInvalidArgument, "[lab] {}: there is no '{}'{}", printable(place, 300), printable(name),
       near.empty() ? "; there are " + joined(known) : ", did you mean '" + near + "'?");
}

std::int64_t count_from(const std::string& text, const Place& place) {
  std::int64_t value = 0;
  if (!parse_option(text, value)) misfit(place, text, "a whole number");
  return value;
}

std::uint64_t seed_from(const std::string& text, const Place& place) {
  std::uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end) misfit(place, text, "a whole number from 0 to 18446744073709551615");
  return value;
}

double number_from(const std::string& text, const Place& place) {
  double value = 0;
  if (!parse_option(text, value)) misfit(place, text, "a number");
  return value;
}

bool flag_from(const std::string& text, const Place& place) {
  bool value = false;
  if (!parse_option(text, value)) misfit(place, text, "true or false");
  return value;
}

void SettingTable::add(std::string key, Take take) { takes_.emplace_back(std::move(key), std::move(take)); }

bool SettingTable::has(const std::string& key) const {
  for (const auto& [name, take] : takes_)
    if (name == key) return true;
  return false;
}

std::vector<std::string> SettingTable::keys() const {
  std::vector<std::string> names;
  for (const auto& [name, take] : takes_) names.push_back(name);
  return names;
}

void SettingTable::read(const SettingsTree& map, const Place& place) const {
  if (map.kind != SettingsTree::Kind::kMap)
    fail(Code::kInvalidArgument, "[lab] {} must hold lines 'key: value'", printable(place, 300));
  for (const auto& [key, entry] : map.map) {
    if (!has(key)) unknown_key(place, key, keys());
    take(key, entry, place);
  }
}

void SettingTable::take(const std::string& key, const SettingsTree& entry, const Place& place) const {
  for (const auto& [name, take] : takes_)
    if (name == key) take(entry, place + (place.find(": ") == place.npos ? ": " : ".") + key);
}

SettingTable::Take into(std::string& target) {
  return [&target](const SettingsTree& entry, const Place& place) { target = value_at(entry, place); };
}
SettingTable::Take into(std::vector<std::string>& target) {
  return [&target](const SettingsTree& entry, const Place& place) { target = values_at(entry, place); };
}
SettingTable::Take into(std::filesystem::path& target) {
  return [&target](const SettingsTree& entry, const Place& place) {
    target = value_at(entry, place);
    if (target.empty()) misfit(place, "", "a path");
  };
}
SettingTable::Take into(std::int64_t& target) {
  return
      [&target](const SettingsTree& entry, const Place& place) { target = count_from(value_at(entry, place), place); };
}
SettingTable::Take into(std::uint64_t& target) {
  return
      [&target](const SettingsTree& entry, const Place& place) { target = seed_from(value_at(entry, place), place); };
}
SettingTable::Take into(double& target) {
  return
      [&target](const SettingsTree& entry, const Place& place) { target = number_from(value_at(entry, place), place); };
}
SettingTable::Take into(bool& target) {
  return
      [&target](const SettingsTree& entry, const Place& place) { target = flag_from(value_at(entry, place), place); };
}
SettingTable::Take into(std::optional<std::int64_t>& target) {
  return
      [&target](const SettingsTree& entry, const Place& place) { target = count_from(value_at(entry, place), place); };
}
SettingTable::Take into(std::optional<double>& target) {
  return
      [&target](const SettingsTree& entry, const Place& place) { target = number_from(value_at(entry, place), place); };
}
SettingTable::Take into(std::optional<std::string>& target) {
  return [&target](const SettingsTree& entry, const Place& place) { target = value_at(entry, place); };
}

SettingTable::Take number_format(std::function<void(bool)> set) {
  return [set = std::move(set)](const SettingsTree& entry, const Place& place) {
    const std::string text = value_at(entry, place);
    if (text != "bf16" && text != "fp32") misfit(place, text, "bf16 or fp32");
    set(text == "bf16");
  };
}

}  // namespace recast
