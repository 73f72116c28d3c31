#include "plugs_json.h"

#include <nlohmann/json.hpp>

#include "recast/base/error.h"
#include "recast/format/canonical_json.h"

namespace recast {
namespace {

using nlohmann::json;

[[noreturn]] void bad_plugs(std::string_view origin, std::string_view expected) {
  fail(Code::kDataCorruption, "[task] {}: the plug-ins must be {}", origin, expected);
}

std::string text_of(const json& plug, const char* key, std::string_view origin) {
  const auto found = plug.find(key);
  if (found == plug.end() || !found->is_string()) bad_plugs(origin, "objects with the texts alias and method");
  return *found;
}

PlugSpec plug_of(const json& value, std::string_view origin) {
  if (!value.is_object() || value.size() != 3) bad_plugs(origin, "objects of alias, method and options");
  PlugSpec plug{text_of(value, "method", origin), text_of(value, "alias", origin), {}};
  const auto options = value.find("options");
  if (options == value.end() || !options->is_object()) bad_plugs(origin, "objects of alias, method and options");
  for (const auto& [name, option] : options->items()) {
    if (!option.is_string()) bad_plugs(origin, "objects whose options are texts");
    plug.options.emplace(name, option);
  }
  return plug;
}

}  // namespace

std::string encode_plugs(const std::vector<PlugSpec>& plugs) {
  json list = json::array();
  for (const PlugSpec& plug : plugs) {
    const std::string& alias = plug.alias.empty() ? plug.method : plug.alias;
    list.push_back({{"alias", alias}, {"method", plug.method}, {"options", json(plug.options)}});
  }
  return canonical_json(list);
}

std::vector<PlugSpec> decode_plugs(std::string_view text, std::string_view origin) {
  const json list = parse_json(text, origin);
  if (!list.is_array()) bad_plugs(origin, "a list");
  std::vector<PlugSpec> plugs;
  for (const json& value : list) plugs.push_back(plug_of(value, origin));
  return plugs;
}

}  // namespace recast
