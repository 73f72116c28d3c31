#include "recast/format/canonical_json.h"

#include <cmath>
#include <vector>

#include "recast/base/error.h"
#include "recast/format/printable.h"

namespace recast {
namespace {

using nlohmann::json;

/// Builds the value while it is parsed, so that limits and doubled keys stop the parser where they occur. The library's
/// parser and this builder keep their own stacks: depth costs no recursion.
class StrictBuilder final : public nlohmann::json_sax<json> {
 public:
  StrictBuilder(std::string_view origin, const JsonLimits& limits) : origin_(origin), limits_(limits) {}

  bool null() override { return add(nullptr) != nullptr; }
  bool boolean(bool value) override { return add(value) != nullptr; }
  bool number_integer(number_integer_t value) override { return add(value) != nullptr; }
  bool number_unsigned(number_unsigned_t value) override { return add(value) != nullptr; }
  bool number_float(number_float_t value, const string_t&) override { return add(value) != nullptr; }
  bool string(string_t& value) override { return add(std::move(value)) != nullptr; }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(json::object()); }
  bool start_array(std::size_t) override { return open(json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& value) override {
    if (open_.back()->contains(value)) {
      fail(Code::kDataCorruption, "[json] {}: the key \"{}\" is given twice in one object; a key may occur once",
           origin_, printable(value));
    }
    key_ = std::move(value);
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    std::string_view reason = error.what();
    if (const auto after_tag = reason.find("] "); after_tag != reason.npos) reason.remove_prefix(after_tag + 2);
    fail(Code::kDataCorruption, "[json] {}: not valid JSON at byte {}: {}", origin_, position, printable(reason, 200));
  }

  json take() { return std::move(root_); }

 private:
  json* add(json value) {
    if (++values_ > limits_.values) {
      fail(Code::kExhausted, "[json] {}: more than {} values; at most that many are accepted", origin_, limits_.values);
    }
    if (open_.empty()) return &(root_ = std::move(value));
    json& parent = *open_.back();
    if (parent.is_object()) return &(parent[key_] = std::move(value));
    parent.push_back(std::move(value));
    return &parent.back();
  }

  // A pointer to an open value stays good: nothing is added to its parent before it closes.
  bool open(json value) {
    if (open_.size() >= limits_.depth) {
      fail(Code::kDataCorruption, "[json] {}: nested deeper than {} levels; no such file is accepted", origin_,
           limits_.depth);
    }
    open_.push_back(add(std::move(value)));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  std::string_view origin_;
  JsonLimits limits_;
  json root_;
  std::vector<json*> open_;
  std::string key_;
  std::size_t values_ = 0;
};

void require_finite_numbers(const json& value) {
  if (value.is_number_float() && !std::isfinite(value.get<double>())) {
    fail(Code::kInvalidArgument, "[json] a number is NaN or infinite; JSON has no text for it");
  }
  if (value.is_structured()) {
    for (const json& child : value) require_finite_numbers(child);
  }
}

}  // namespace

json parse_json(std::string_view text, std::string_view origin, const JsonLimits& limits) {
  if (text.starts_with("\xef\xbb\xbf")) {
    fail(Code::kDataCorruption, "[json] {}: begins with a byte order mark; expected UTF-8 without one", origin);
  }
  // The parser takes a NUL for the end of the text and would leave what follows unread.
  if (const auto nul = text.find('\0'); nul != text.npos) {
    fail(Code::kDataCorruption, "[json] {}: not valid JSON at byte {}: a NUL byte", origin, nul + 1);
  }
  StrictBuilder builder(origin, limits);
  if (!json::sax_parse(text.begin(), text.end(), &builder)) {
    fail(Code::kDataCorruption, "[json] {}: not valid JSON", origin);
  }
  return builder.take();
}

std::string canonical_json(const json& value) {
  require_finite_numbers(value);
  try {
    return value.dump();
  } catch (const json::exception&) {
    fail(Code::kInvalidArgument, "[json] a string is not UTF-8; JSON has no text for it");
  }
}

}  // namespace recast
