#include "scalar_text.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <limits>
#include <optional>

#include "recast/base/error.h"
#include "recast/format/printable.h"

namespace recast {
namespace {

/// "-0x1.8p+1"; the digits are those of the bits, so that nothing is rounded.
std::optional<double> real_of(std::string_view text) {
  const bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  if (!text.starts_with("0x")) return {};
  text.remove_prefix(2);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::hex);
  if (error != std::errc{} || end != text.data() + text.size() || text.starts_with('-') || !std::isfinite(value)) {
    return {};
  }
  return negative ? -value : value;
}

}  // namespace

std::optional<std::int64_t> integer_of(std::string_view text, std::int64_t low) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < low) return {};
  return value;
}

nlohmann::json encode_scalar(const Number& number) {
  if (const auto* integer = std::get_if<std::int64_t>(&number)) return {{"integer", std::to_string(*integer)}};
  if (const auto* real = std::get_if<double>(&number)) return {{"real", fmt::format("{:a}", *real)}};
  return {{"text", std::get<std::string>(number)}};
}

Number decode_scalar(const nlohmann::json& value, std::string_view name, std::string_view origin) {
  if (value.is_object() && value.size() == 1 && value.begin()->is_string()) {
    const std::string& kind = value.begin().key();
    const std::string text = *value.begin();
    if (kind == "text") return text;
    if (kind == "integer") {
      if (const auto integer = integer_of(text, std::numeric_limits<std::int64_t>::min())) return *integer;
    }
    if (kind == "real") {
      if (const auto real = real_of(text)) return *real;
    }
  }
  fail(Code::kDataCorruption,
       "[task] {}: the number '{}' is {}; expected one of integer, real (finite, hexadecimal digits) and text", origin,
       printable(name), printable(value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace)));
}

}  // namespace recast
