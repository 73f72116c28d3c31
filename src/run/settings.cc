#include "recast/run/settings.h"

#include <yaml-cpp/yaml.h>

#include <nlohmann/json.hpp>
#include <set>

#include "recast/base/error.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"
#include "recast/format/utf8.h"

namespace recast {
namespace {

constexpr std::uint64_t kMaxBytes = 1 << 20;
constexpr std::size_t kMaxKeyBytes = 128;  // far beyond any flag; YAML itself ends at 1024

std::string scalar_text(const YAML::Node& node, const std::string& key, const std::string& origin) {
  if (!node.IsScalar() || (node.Tag() != "?" && node.Tag() != "!" && !node.Tag().empty()))
    fail(Code::kInvalidArgument, "[config] {}: '{}' must be a value or a list of values", origin, printable(key));
  // The YAML library makes single bytes of "\N" and "\_"; a NUL would end the text for whoever uses it as a path.
  if (!is_utf8(node.Scalar()) || node.Scalar().find('\0') != std::string::npos) {
    fail(Code::kUnsupported, "[config] {}: '{}' holds an escape that is not read; write the character itself", origin,
         printable(key));
  }
  return node.Scalar();
}

Settings settings_of(const YAML::Node& root, const std::string& origin) {
  Settings settings;
  std::set<std::string> seen;
  if (root.IsNull()) return settings;
  if (!root.IsMap()) fail(Code::kInvalidArgument, "[config] {}: expected lines 'key: value'", origin);
  for (const auto& entry : root) {
    const std::string key = scalar_text(entry.first, "key", origin);
    if (key.size() > kMaxKeyBytes) {
      fail(Code::kInvalidArgument, "[config] {}: '{}' has {} bytes; a key has at most {}", origin, printable(key),
           key.size(), kMaxKeyBytes);
    }
    if (!seen.insert(key).second) fail(Code::kInvalidArgument, "[config] {}: '{}' twice", origin, printable(key));
    std::vector<std::string> values;
    if (entry.second.IsSequence())
      for (const YAML::Node& value : entry.second) values.push_back(scalar_text(value, key, origin));
    else
      values.push_back(scalar_text(entry.second, key, origin));
    settings.emplace_back(key, std::move(values));
  }
  return settings;
}

/// Plain where nothing in it can mean anything to YAML, else as JSON writes it. The YAML library's own writer puts
/// other characters for some (U+FFFF) and leaves carriage returns as they are.
std::string scalar_yaml(const std::string& text) {
  constexpr std::string_view kPlain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/+-";
  const bool plain = !text.empty() && text.find_first_not_of(kPlain) == text.npos && text[0] != '-' && text[0] != '.' &&
                     text != "null" && text != "Null" && text != "NULL";
  if (plain) return text;
  return nlohmann::json(text).dump();
}

}  // namespace

Settings read_settings(const std::filesystem::path& file) {
  return parse_settings(read_file(file, kMaxBytes), printable(file.string(), 300));
}

Settings parse_settings(const std::string& text, const std::string& origin) {
  // The YAML library would guess another encoding, and put characters of its own for what is none.
  if (!is_utf8(text) || text.find('\0') != text.npos) {
    fail(Code::kDataCorruption, "[config] {}: is not UTF-8 text; save it as UTF-8", origin);
  }
  try {
    return settings_of(YAML::Load(text), origin);
  } catch (const YAML::Exception& e) {
    fail(Code::kDataCorruption, "[config] {}: not YAML at line {}: {}", origin, e.mark.line + 1, printable(e.msg));
  }
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
