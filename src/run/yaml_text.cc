#include "yaml_text.h"

#include <yaml-cpp/eventhandler.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "recast/base/error.h"
#include "recast/format/printable.h"
#include "recast/format/utf8.h"

namespace recast {
namespace {

constexpr std::size_t kMaxKeyBytes = 128;  // far beyond any flag; YAML itself ends at 1024

constexpr std::size_t kMostNodes = 100'000;  // of a megabyte of text half a gigabyte could be built

/// Counts what a text holds, and builds nothing.
class Survey final : public YAML::EventHandler {
 public:
  explicit Survey(const std::string& origin) : origin_(origin) {}

  int line() const { return line_; }  ///< where the last document began

  void OnDocumentStart(const YAML::Mark& mark) override { line_ = mark.line + 1; }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override { count(); }
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override { count(); }
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t, const std::string&) override { count(); }
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {
    count();
  }
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {
    count();
  }
  void OnMapEnd() override {}

 private:
  void count() {
    if (++nodes_ > kMostNodes) fail(Code::kExhausted, "[config] {}: more than {} keys and values", origin_, kMostNodes);
  }

  const std::string& origin_;
  std::size_t nodes_ = 0;
  int line_ = 0;
};

/// At most two documents are asked for: where a comma stands at the beginning of one, yaml-cpp 0.7 takes nothing from
/// the text and calls it an empty document, so that YAML::LoadAll() makes such documents until the memory is full.
void survey(const std::string& text, const std::string& origin) {
  std::istringstream in(text);
  YAML::Parser parser(in);
  Survey found(origin);
  if (!parser.HandleNextDocument(found) || !parser.HandleNextDocument(found)) return;
  fail(Code::kInvalidArgument, "[config] {}: line {} begins a second document ('---') or belongs to none; expected one",
       origin, found.line());
}

bool has_tag(const YAML::Node& node) { return node.Tag() != "?" && node.Tag() != "!" && !node.Tag().empty(); }

}  // namespace

void read_yaml(const std::string& text, const std::string& origin, const std::function<void(const YAML::Node&)>& read) {
  // The YAML library would guess another encoding, and put characters of its own for what is none.
  if (!is_utf8(text) || text.find('\0') != text.npos) {
    fail(Code::kDataCorruption, "[config] {}: is not UTF-8 text; save it as UTF-8", origin);
  }
  try {
    survey(text, origin);
    read(YAML::Load(text));
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
