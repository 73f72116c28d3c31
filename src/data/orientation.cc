// Orientation is tag 0x0112 of the first directory of a TIFF header (EXIF 2.32, 4.6.4).
#include "orientation.h"

#include <zlib.h>

#include <algorithm>
#include <cstdint>
#include <optional>

namespace recast {
namespace {

using namespace std::literals;

constexpr std::string_view kExifMark = "Exif\0\0"sv;

// Numbers out of bytes that may end anywhere.
class Bytes {
 public:
  Bytes(std::string_view bytes, bool little) : bytes_(bytes), little_(little) {}

  std::optional<std::uint32_t> number(std::uint64_t at, std::size_t width) const {
    if (at > bytes_.size() || bytes_.size() - at < width) return std::nullopt;
    std::uint32_t out = 0;
    for (std::size_t i = 0; i < width; ++i) {
      out = out << 8 | static_cast<unsigned char>(bytes_[at + (little_ ? width - 1 - i : i)]);
    }
    return out;
  }

 private:
  const std::string_view bytes_;
  const bool little_;
};

std::size_t width_of(std::uint32_t type) {  // SHORT, as the standard has it, and LONG, as some write
  switch (type) {
    case 3:
      return 2;
    case 4:
      return 4;
    default:
      return 0;
  }
}

int orientation_in_tiff(std::string_view tiff) {
  constexpr std::uint32_t kOrientation = 0x0112;
  const bool little = tiff.starts_with("II*\0"sv);
  if (!little && !tiff.starts_with("MM\0*"sv)) return 1;
  const Bytes bytes(tiff, little);
  const std::uint64_t directory = bytes.number(4, 4).value_or(0);
  const std::uint32_t count = bytes.number(directory, 2).value_or(0);
  for (std::uint64_t at = directory + 2; at < directory + 2 + 12ull * count; at += 12) {
    const auto tag = bytes.number(at, 2);
    if (!tag) return 1;
    if (*tag != kOrientation) continue;
    const auto type = bytes.number(at + 2, 2), values = bytes.number(at + 4, 4);
    if (!type || values != 1u || width_of(*type) == 0) return 1;
    const auto value = bytes.number(at + 8, width_of(*type)).value_or(1);
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

// What follows "Exif" in the first APP1 segment that has it. Segments end where the scan begins.
std::string_view exif_of_jpeg(std::string_view bytes) {
  const Bytes numbers(bytes, false);
  for (std::uint64_t at = 2;;) {
    const auto marker = numbers.number(at, 2);
    if (marker == 0xFFFFu) {  // a fill byte
      ++at;
      continue;
    }
    const auto length = numbers.number(at + 2, 2);
    if (!marker || *marker < 0xFFC0 || *marker == 0xFFDA || *marker == 0xFFD9 || !length || *length < 2) return {};
    const auto body = bytes.substr(std::min<std::uint64_t>(at + 4, bytes.size())).substr(0, *length - 2);
    if (*marker == 0xFFE1 && body.starts_with(kExifMark)) return body.substr(kExifMark.size());
    at += 2 + *length;
  }
}

std::string_view exif_of_png(std::string_view bytes) {
  const Bytes numbers(bytes, false);
  for (std::uint64_t at = 8;;) {
    const auto length = numbers.number(at, 4);
    if (!length || bytes.size() - at < 12ull + *length) return {};
    const auto type = bytes.substr(at + 4, 4), typed = bytes.substr(at + 4, 4ull + *length);
    if (type == "IEND") return {};
    if (type == "eXIf") {
      const auto sum =
          ::crc32(0, reinterpret_cast<const unsigned char*>(typed.data()), static_cast<uInt>(typed.size()));
      return numbers.number(at + 8 + *length, 4) == static_cast<std::uint32_t>(sum) ? typed.substr(4) : ""sv;
    }
    at += 12ull + *length;
  }
}

std::string_view exif_of_webp(std::string_view bytes) {
  const Bytes numbers(bytes, true);
  for (std::uint64_t at = 12;;) {
    const auto length = numbers.number(at + 4, 4);
    if (!length || bytes.size() - at - 8 < *length) return {};
    auto body = bytes.substr(at + 8, *length);
    if (bytes.substr(at, 4) == "EXIF") {
      if (body.starts_with(kExifMark)) body.remove_prefix(kExifMark.size());  // some writers keep JPEG's mark
      return body;
    }
    at += 8ull + *length + (*length & 1);
  }
}

// Where the pixel of the upright picture comes from: its y runs along the stored rows or columns, forwards or not.
struct Turn {
  bool swaps, flips_y, flips_x;
};

constexpr Turn kTurns[] = {{false, false, false}, {false, false, true}, {false, true, true}, {false, true, false},
                           {true, false, false},  {true, true, false},  {true, true, true},  {true, false, true}};

void turn_plane(const std::uint8_t* from, std::int64_t height, std::int64_t width, const Turn& turn, std::uint8_t* to) {
  const std::int64_t step_y = turn.flips_y ? -width : width, step_x = turn.flips_x ? -1 : 1;
  const std::uint8_t* start = from + (turn.flips_y ? (height - 1) * width : 0) + (turn.flips_x ? width - 1 : 0);
  if (!turn.swaps) {
    for (std::int64_t y = 0; y < height; ++y, start += step_y) {
      for (std::int64_t x = 0; x < width; ++x) *to++ = start[x * step_x];
    }
    return;
  }
  // Squares that fit the fastest cache: one of the two sides is walked across its rows.
  constexpr std::int64_t kTile = 64;
  for (std::int64_t top = 0; top < width; top += kTile) {
    for (std::int64_t left = 0; left < height; left += kTile) {
      for (std::int64_t y = top; y < std::min(top + kTile, width); ++y) {
        for (std::int64_t x = left; x < std::min(left + kTile, height); ++x) {
          to[y * height + x] = start[x * step_y + y * step_x];
        }
      }
    }
  }
}

}  // namespace

int orientation_of(std::string_view bytes) {
  if (bytes.starts_with("\xff\xd8\xff"sv)) return orientation_in_tiff(exif_of_jpeg(bytes));
  if (bytes.starts_with("\x89PNG\r\n\x1a\n"sv)) return orientation_in_tiff(exif_of_png(bytes));
  if (bytes.starts_with("RIFF"sv) && bytes.size() >= 12) return orientation_in_tiff(exif_of_webp(bytes));
  return 1;
}

Picture upright(Picture picture, int orientation) {
  if (orientation <= 1 || orientation > 8) return picture;
  const Turn& turn = kTurns[orientation - 1];
  Picture out =
      turn.swaps ? Picture::of_size(picture.width, picture.height) : Picture::of_size(picture.height, picture.width);
  for (std::int64_t plane = 0; plane < 3; ++plane) {
    const std::int64_t offset = plane * picture.plane_bytes();
    turn_plane(picture.planes.get() + offset, picture.height, picture.width, turn, out.planes.get() + offset);
  }
  return out;
}

}  // namespace recast
