#include "scalars.h"

#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "recast/base/error.h"
#include "recast/format/canonical_json.h"
#include "recast/format/printable.h"

namespace recast {
namespace {

/// Hexadecimal, so that every finite double, -0 and denormals come back bit-equal.
std::string real_text(double value) { return fmt::format("{:a}", value); }

/// The whole of `text`, whatever the locale; "inf" and "nan" too, since a checkpoint may hold them.
double parse_real(std::string_view text, const std::string& name) {
  std::string_view digits = text;
  const bool negative = digits.starts_with('-');
  if (negative) digits.remove_prefix(1);
  const bool hexadecimal = digits.starts_with("0x");
  if (hexadecimal) digits.remove_prefix(2);
  double value = 0;
  const char* end = digits.data() + digits.size();
  const auto parsed = std::from_chars(digits.data(), end, value, std::chars_format::hex);
  const bool good = parsed.ec == std::errc{} && parsed.ptr == end && !digits.starts_with('-');
  if (!good || hexadecimal != std::isfinite(value))
    fail(Code::kDataCorruption, "[numbers] '{}' is '{}', no real number in hexadecimal digits", printable(name),
         printable(text));
  return negative ? -value : value;
}

Scalar parse_scalar(const nlohmann::json& entry, const std::string& name) {
  if (entry.is_object() && entry.size() == 1) {
    const auto value = entry.begin();
    const bool fits = !value->is_number_unsigned() || *value <= std::uint64_t{INT64_MAX};
    if (value.key() == "integer" && value->is_number_integer() && fits) return value->get<std::int64_t>();
    if (value.key() == "real" && value->is_string()) return parse_real(value->get<std::string>(), name);
    if (value.key() == "text" && value->is_string()) return value->get<std::string>();
  }
  fail(Code::kDataCorruption, "[numbers] scalar '{}' is neither integer of 64 bits, real nor text", printable(name));
}

}  // namespace

std::pair<std::string, std::string> split_full_name(const std::string& full) {
  const std::size_t dot = full.find('.');
  if (dot == std::string::npos || dot == 0 || dot + 1 == full.size())
    fail(Code::kDataCorruption, "[numbers] '{}' is not PLUG-IN.NAME", printable(full));
  return {full.substr(0, dot), full.substr(dot + 1)};
}

std::string encode_scalars(const Scalars& scalars) {
  nlohmann::json object = nlohmann::json::object();
  for (const auto& [full, scalar] : scalars) {
    if (const auto* integer = std::get_if<std::int64_t>(&scalar))
      object[full] = {{"integer", *integer}};
    else if (const auto* real = std::get_if<double>(&scalar))
      object[full] = {{"real", real_text(*real)}};
    else
      object[full] = {{"text", std::get<std::string>(scalar)}};
  }
  return canonical_json(object);
}

Scalars decode_scalars(std::string_view text) {
  const nlohmann::json entries = parse_json(text, "scalars");
  if (!entries.is_object()) fail(Code::kDataCorruption, "[numbers] scalars must be a JSON object");
  Scalars scalars;
  for (const auto& [full, entry] : entries.items()) scalars.emplace(full, parse_scalar(entry, full));
  return scalars;
}

}  // namespace recast
