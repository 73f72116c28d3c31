#pragma once
#include <nlohmann/json.hpp>
#include <string_view>

#include "recast/method/state.h"

namespace recast {

/// A number that is no tensor, without loss: {"integer":"-5"}, {"real":"0x1.8p+1"} or {"text":"..."}. Texts for
/// numbers, since many JSON readers round integers to doubles.
nlohmann::json encode_scalar(const Number& number);
/// Throws kDataCorruption naming `origin` and `name`.
Number decode_scalar(const nlohmann::json& value, std::string_view name, std::string_view origin);

/// The whole text as a decimal integer of at least `low`, or nothing.
std::optional<std::int64_t> integer_of(std::string_view text, std::int64_t low);

}  // namespace recast
