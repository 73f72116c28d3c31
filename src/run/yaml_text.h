#pragma once
#include <yaml-cpp/yaml.h>

#include <functional>
#include <string>

namespace recast {

/// Hands the document to `read`. Throws kDataCorruption: not YAML, with its line, or not UTF-8; kInvalidArgument: more
/// than one document, of which all but the first would be passed over; kExhausted: more keys and values than any such
/// file has; what `read` throws.
/// Memory   within about a hundred times the text's size. An alias is a reference here: who follows them has to count.
void read_yaml(const std::string& text, const std::string& origin, const std::function<void(const YAML::Node&)>& read);

/// Of a list or a map, whose tag would otherwise be passed over. Throws kInvalidArgument.
void refuse_tag(const YAML::Node& node, const std::string& key, const std::string& origin);

/// A value as it stands there. Throws kInvalidArgument: a list, a map or a tag; kUnsupported: an escape that the YAML
/// library reads wrongly.
std::string scalar_text(const YAML::Node& node, const std::string& key, const std::string& origin);
/// A map's key. Throws as scalar_text(); kInvalidArgument: far longer than any key.
std::string key_text(const YAML::Node& node, const std::string& origin);

/// Text that reads back as this value: plain where nothing in it can mean anything to YAML, else as JSON writes it.
std::string scalar_yaml(const std::string& text);

}  // namespace recast
