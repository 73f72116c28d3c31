#pragma once
#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace recast {

struct JsonLimits {
  std::size_t depth = 64;           ///< nested arrays and objects
  std::size_t values = 10'000'000;  ///< all values together: bounds memory (16 bytes each, and more)
};

/// Strict JSON (RFC 8259, UTF-8 without byte order mark, no comments), and stricter: a key given twice is refused,
/// since two readers would see two files. `origin` names the text in messages.
/// Throws  kDataCorruption: not JSON, a key given twice, or too deep;  kExhausted: too many values.
nlohmann::json parse_json(std::string_view text, std::string_view origin, const JsonLimits& limits = {});

/// The one text of a value: keys sorted by bytes, no spaces, shortest digits that read back to the same double.
/// 1 and 1.0 are different values. For hashing and for byte-identical files.
/// Throws  kInvalidArgument: NaN or infinity, or a string that is not UTF-8.
std::string canonical_json(const nlohmann::json& value);

}  // namespace recast
