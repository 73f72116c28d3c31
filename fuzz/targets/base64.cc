// BYTES elements that are base64 in JSON: one text for every content, one content for every text that is taken.
#include "serve/base64.h"

#include <algorithm>
#include <cstdint>

#include "target.h"

using namespace recast;

namespace {

/// RFC 4648, section 4.
std::string encoded(std::string_view content) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (std::size_t i = 0; i < content.size(); i += 3) {
    const std::size_t there = std::min<std::size_t>(3, content.size() - i);
    std::uint32_t bits = 0;
    for (std::size_t k = 0; k < 3; ++k)
      bits = bits << 8 | (k < there ? static_cast<unsigned char>(content[i + k]) : 0u);
    for (std::size_t k = 0; k < 4; ++k) text += k <= there ? kDigits[bits >> (18 - 6 * k) & 63] : '=';
  }
  return text;
}

}  // namespace

RECAST_FUZZ_TARGET(base64) {
  if (const auto content = decode_base64(bytes)) RECAST_FUZZ_CHECK(encoded(*content) == bytes);
  const auto again = decode_base64(encoded(bytes));
  RECAST_FUZZ_CHECK(again && *again == bytes);
}
