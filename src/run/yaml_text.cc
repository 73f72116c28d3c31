#include "yaml_text.h"

#include <nlohmann/json.hpp>

#include "recast/base/error.h"
#include "recast/format/printable.h"
#include "recast/format/utf8.h"

namespace recast {
namespace {

constexpr std::size_t kMaxKeyBytes = 128;  // far beyond any flag; YAML itself ends at 1024

bool has_tag(const YAML::Node& node) { return node.Tag() != "?" && node.Tag() != "!" && !node.Tag().empty(); }

}  // namespace

void read_yaml(const std::string& text, const std::string& origin, const std::function<void(const YAML::Node&)>& read) {
  // The YAML library would guess another encoding, and put characters of its own for what is none.
  if (!is_utf8(text) || text.find('\0') != text.npos) {
    fail(Code::kDataCorruption, "[config] {}: is not UTF-8 text; save it as UTF-8", origin);
  }
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(text);
    if (documents.size() > 1) {
      fail(Code::kInvalidArgument, "[config] {}: holds {} documents, set apart by '---'; expected one", origin,
           documents.size());
    }
    read(documents.empty() ? YAML::Node() : documents.front());
  } catch (const YAML::Exception& e) {
    fail(Code::kDataCorruption, "[config] {}: not YAML at line {}: {}", origin, e.mark.line + 1, printable(e.msg));
  }
}

void refuse_tag(const YAML::Node& node, const std::string& key, const std::string& origin) {
  if (!has_tag(node)) return;
  fail(Code::kInvalidArgument, "[config] {}: '{}' has the tag '{}'; tags are not read, leave it out", origin,
       printable(key), printable(node.Tag()));
}

std::string scalar_text(const YAML::Node& node, const std::string& key, const std::string& origin) {
  if (!node.IsScalar() || has_tag(node))
    fail(Code::kInvalidArgument, "[config] {}: '{}' must be a value or a list of values", origin, printable(key));
  // The YAML library makes single bytes of "\N" and "\_"; a NUL would end the text for whoever uses it as a path.
  if (!is_utf8(node.Scalar()) || node.Scalar().find('\0') != std::string::npos) {
    fail(Code::kUnsupported, "[config] {}: '{}' holds an escape that is not read; write the character itself", origin,
         printable(key));
  }
  return node.Scalar();
}

std::string key_text(const YAML::Node& node, const std::string& origin) {
  std::string key = scalar_text(node, "key", origin);
  if (key.size() > kMaxKeyBytes) {
    fail(Code::kInvalidArgument, "[config] {}: '{}' has {} bytes; a key has at most {}", origin, printable(key),
         key.size(), kMaxKeyBytes);
  }
  return key;
}

// The YAML library's own writer puts other characters for some (U+FFFF) and leaves carriage returns as they are.
std::string scalar_yaml(const std::string& text) {
  constexpr std::string_view kPlain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/+-";
  const bool plain = !text.empty() && text.find_first_not_of(kPlain) == text.npos && text[0] != '-' && text[0] != '.' &&
                     text != "null" && text != "Null" && text != "NULL";
  if (plain) return text;
  return nlohmann::json(text).dump();
}

}  // namespace recast
