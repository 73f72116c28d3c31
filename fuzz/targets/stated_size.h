#pragma once
#include <cstdint>
#include <optional>
#include <string_view>

namespace recast::fuzz {

struct StatedSize {
  std::uint64_t width, height;
};

inline std::uint64_t number_at(std::string_view bytes, std::size_t at, std::size_t count, bool little_endian = false) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t place = at + (little_endian ? count - 1 - i : i);
    value = value << 8 | static_cast<unsigned char>(bytes[place]);
  }
  return value;
}

/// The frame header of a JPEG: the first of the markers C0..CF that is none of C4, C8, CC.
inline std::optional<StatedSize> stated_in_jpeg(std::string_view bytes) {
  for (std::size_t at = 2; at + 9 <= bytes.size();) {
    if (bytes[at] != '\xff') {
      ++at;
      continue;
    }
    const auto marker = static_cast<unsigned char>(bytes[at + 1]);
    if (marker == 0xff) {
      ++at;
    } else if (marker == 0 || marker == 1 || (marker >= 0xd0 && marker <= 0xd8)) {
      at += 2;
    } else if (marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc) {
      return StatedSize{number_at(bytes, at + 7, 2), number_at(bytes, at + 5, 2)};
    } else {
      at += 2 + number_at(bytes, at + 2, 2);
    }
  }
  return std::nullopt;
}

/// Of the three kinds of the first chunk: lossy, lossless, extended.
inline std::optional<StatedSize> stated_in_webp(std::string_view bytes) {
  if (bytes.size() < 30) return std::nullopt;
  const std::string_view kind = bytes.substr(12, 4);
  if (kind == "VP8 ") {
    return StatedSize{number_at(bytes, 26, 2, true) & 0x3fff, number_at(bytes, 28, 2, true) & 0x3fff};
  }
  if (kind == "VP8L") {
    const std::uint64_t bits = number_at(bytes, 21, 4, true);
    return StatedSize{(bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1};
  }
  if (kind == "VP8X") return StatedSize{number_at(bytes, 24, 3, true) + 1, number_at(bytes, 27, 3, true) + 1};
  return std::nullopt;
}

/// Width and height as the header of a picture says, read without its library.
inline std::optional<StatedSize> stated_size(std::string_view bytes) {
  using namespace std::literals;
  if (bytes.starts_with("\x89PNG\r\n\x1a\n"sv) && bytes.size() >= 24) {
    return StatedSize{number_at(bytes, 16, 4), number_at(bytes, 20, 4)};
  }
  if (bytes.starts_with("\xff\xd8"sv)) return stated_in_jpeg(bytes);
  if (bytes.starts_with("RIFF"sv) && bytes.size() >= 12 && bytes.substr(8, 4) == "WEBP") return stated_in_webp(bytes);
  return std::nullopt;
}

}  // namespace recast::fuzz
