#include "recast/method/numbers_file.h"

#include <charconv>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>

#include "recast/base/error.h"
#include "recast/format/canonical_json.h"
#include "recast/format/printable.h"

namespace recast {
namespace {

std::pair<std::string, std::string> split_name(const std::string& name) {
  const std::size_t dot = name.find('.');
  if (dot == std::string::npos || dot == 0 || dot + 1 == name.size())
    fail(Code::kDataCorruption, "[numbers] '{}' is not PLUG-IN.NAME", printable(name));
  return {name.substr(0, dot), name.substr(dot + 1)};
}

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

Number parse_scalar(const nlohmann::json& entry, const std::string& name) {
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

std::string_view name(Scope scope) {
  constexpr std::string_view kNames[] = {"task", "shared", "client", "live", "run"};
  return kNames[static_cast<int>(scope)];
}

void pack_numbers(const Numbers& numbers, Scope scope, const std::string& prefix, TensorFile& file) {
  nlohmann::json scalars = nlohmann::json::object();
  for (const auto& [plug, scopes] : numbers.plugs()) {
    for (const auto& [name, number] : numbers.at(plug, scope)) {
      const std::string full = plug + "." + name;
      if (const auto* tensor = std::get_if<at::Tensor>(&number))
        file.tensors[prefix + full] = tensor->detach();
      else if (const auto* integer = std::get_if<std::int64_t>(&number))
        scalars[full] = {{"integer", *integer}};
      else if (const auto* real = std::get_if<double>(&number))
        scalars[full] = {{"real", real_text(*real)}};
      else
        scalars[full] = {{"text", std::get<std::string>(number)}};
    }
  }
  if (!scalars.empty()) file.metadata[prefix + "scalars"] = canonical_json(scalars);
}

void unpack_numbers(const TensorFile& file, Scope scope, const std::string& prefix, Numbers& numbers) {
  for (const auto& [full, tensor] : file.tensors) {
    if (!full.starts_with(prefix)) continue;
    const auto [plug, name] = split_name(full.substr(prefix.size()));
    numbers.at(plug, scope).set(name, tensor);
  }
  const auto scalars = file.metadata.find(prefix + "scalars");
  if (scalars == file.metadata.end()) return;
  const nlohmann::json entries = parse_json(scalars->second, "scalars");
  if (!entries.is_object()) fail(Code::kDataCorruption, "[numbers] scalars must be a JSON object");
  for (const auto& [full, entry] : entries.items()) {
    if (file.tensors.contains(prefix + full))
      fail(Code::kDataCorruption, "[numbers] '{}' is a tensor and a scalar", printable(full));
    const auto [plug, name] = split_name(full);
    numbers.at(plug, scope).set(name, parse_scalar(entry, full));
  }
}

}  // namespace recast
