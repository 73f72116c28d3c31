#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace recast {

// The numbers of a numbers file that are no tensors; without torch, so that a fuzz target links little.

using Scalar = std::variant<std::int64_t, double, std::string>;
/// By full name: "plug.family@slot#key".
using Scalars = std::map<std::string, Scalar>;

/// {"plug.family@slot#key": {"integer": 3} | {"real": "0x1.8p+1"} | {"text": "..."}} as canonical JSON. Every double
/// comes back bit-equal but for the payload of NaN. Throws kInvalidArgument: a text that is not UTF-8.
std::string encode_scalars(const Scalars& scalars);
/// Throws kDataCorruption; kExhausted as parse_json().
Scalars decode_scalars(std::string_view text);

/// "plug" and "family@slot#key". Throws kDataCorruption where one of them is empty.
std::pair<std::string, std::string> split_full_name(const std::string& full);

}  // namespace recast
