#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace recast {

/// The bytes of a base64 text (RFC 4648, section 4): padded, without spaces or line breaks, and with no bit set that
/// does not count. Nothing: it is not such a text.
std::optional<std::string> decode_base64(std::string_view text);

}  // namespace recast
