#include "recast/run/settings.h"

#include <set>

#include "recast/base/error.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"
#include "recast/format/utf8.h"
#include "yaml_text.h"

namespace recast {
namespace {

constexpr std::size_t kMostFlatValues = 100'000;

Settings settings_of(const YAML::Node& root, const std::string& origin) {
  Settings settings;
  std::set<std::string> seen;
  std::size_t count = 0;
  if (root.IsNull()) return settings;
  refuse_tag(root, "the file", origin);
  if (!root.IsMap()) fail(Code::kInvalidArgument, "[config] {}: expected lines 'key: value'", origin);
  for (const auto& entry : root) {
    const std::string key = key_text(entry.first, origin);
    if (!seen.insert(key).second) fail(Code::kInvalidArgument, "[config] {}: '{}' twice", origin, printable(key));
    std::vector<std::string> values;
    if (!entry.second.IsScalar()) refuse_tag(entry.second, key, origin);
    if (entry.second.IsSequence())
      for (const YAML::Node& value : entry.second) values.push_back(scalar_text(value, key, origin));
    else
      values.push_back(scalar_text(entry.second, key, origin));
    // Many keys may name one long list.
    if ((count += values.size()) > kMostFlatValues)
      fail(Code::kExhausted, "[config] {}: more than {} values", origin, kMostFlatValues);
    settings.emplace_back(key, std::move(values));
  }
  return settings;
}

}  // namespace

Settings read_settings(const std::filesystem::path& file) {
  return parse_settings(read_file(file, kMaxConfigBytes), printable_path(file));
}

Settings parse_settings(const std::string& text, const std::string& origin) {
  Settings settings;
  read_yaml(text, origin, [&](const YAML::Node& root) { settings = settings_of(root, origin); });
  return settings;
}

std::string settings_yaml(const Settings& settings) {
  std::string out;
  for (const auto& [key, values] : settings) {
    std::string list;
    for (const std::string& value : values) {
      if (!is_utf8(value)) {
        fail(Code::kUnsupported, "[config] {} '{}': its value is not UTF-8; rename it, or link to it", printable(key),
             printable(value, 300));
      }
      list += (list.empty() ? "" : ", ") + scalar_yaml(value);
    }
    out += scalar_yaml(key) + ": " + (values.size() == 1 ? list : "[" + list + "]") + "\n";
  }
  return out;
}

}  // namespace recast
