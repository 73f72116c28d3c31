#include "recast/data/picture.h"

#include <array>

#include "codec.h"
#include "orientation.h"
#include "recast/base/error.h"

namespace recast {
namespace {

using namespace std::literals;

struct Signature {
  std::string_view bytes;
  std::size_t offset;
  std::string_view what;
};

constexpr std::array kForeign = {
    Signature{"GIF8"sv, 0, "a GIF image; convert it to PNG"sv},
    Signature{"BM"sv, 0, "a BMP image; convert it to PNG"sv},
    Signature{"II*\0"sv, 0, "a TIFF image; convert it to PNG"sv},
    Signature{"MM\0*"sv, 0, "a TIFF image; convert it to PNG"sv},
    Signature{"ftypavif"sv, 4, "an AVIF image; convert it to PNG or JPEG"sv},
    Signature{"ftyphei"sv, 4, "a HEIC image; convert it to PNG or JPEG"sv},
    Signature{"\0\0\0\x0cJXL "sv, 0, "a JPEG XL image; convert it to PNG or JPEG"sv},
    Signature{"\0\0\0\x0cjP  "sv, 0, "a JPEG 2000 image; convert it to PNG or JPEG"sv},
    Signature{"\x1f\x8b"sv, 0, "gzip data; unpack it"sv},
    Signature{"PK\x03\x04"sv, 0, "a zip archive; unpack it"sv},
    Signature{"%PDF"sv, 0, "a PDF document"sv},
    Signature{"version https://git-lfs"sv, 0, "a Git LFS pointer; run git lfs pull"sv},
    Signature{"<"sv, 0, "text (SVG, XML or HTML), not pixels"sv},
};

bool has(std::string_view bytes, std::string_view signature, std::size_t offset = 0) {
  return bytes.size() >= offset && bytes.substr(offset).starts_with(signature);
}

[[noreturn]] void fail_foreign(std::string_view bytes, std::string_view origin) {
  for (const auto& s : kForeign) {
    if (has(bytes, s.bytes, s.offset)) {
      fail(Code::kUnsupported, "[data] {}: holds {}; only JPEG, PNG and WebP are read", origin, s.what);
    }
  }
  fail(Code::kUnsupported, "[data] {}: holds no image that is known; only JPEG, PNG and WebP are read", origin);
}

using Decoder = Picture (*)(std::string_view bytes, std::string_view origin);

Decoder decoder_of(std::string_view bytes) {
  if (has(bytes, "\xff\xd8\xff"sv)) return decode_jpeg;
  if (has(bytes, "\x89PNG\r\n\x1a\n"sv)) return decode_png;
  if (has(bytes, "RIFF"sv) && has(bytes, "WEBP"sv, 8)) return decode_webp;
  return nullptr;
}

}  // namespace

void check_image_size(std::uint64_t width, std::uint64_t height, std::string_view origin) {
  if (width > kMaxImageSidePx || height > kMaxImageSidePx || width * height > kMaxImagePixels) {
    fail(Code::kExhausted, "[data] {}: {} x {} pixels; at most {} a side and {} in all are decoded, so scale it down",
         origin, width, height, kMaxImageSidePx, kMaxImagePixels);
  }
}

Picture Picture::of_size(std::int64_t height, std::int64_t width) {
  return {height, width, std::make_unique_for_overwrite<std::uint8_t[]>(static_cast<std::size_t>(3 * height * width))};
}

void spread_rgb(const std::uint8_t* rgb, Picture& picture) {
  const std::int64_t size = picture.plane_bytes();
  std::uint8_t* out = picture.planes.get();
  for (std::int64_t i = 0; i < size; ++i, rgb += 3) out[i] = rgb[0], out[size + i] = rgb[1], out[2 * size + i] = rgb[2];
}

void composite_on_white(const std::uint8_t* rgba, Picture& picture) {
  const std::int64_t size = picture.plane_bytes();
  std::uint8_t* out = picture.planes.get();
  for (std::int64_t i = 0; i < size; ++i, rgba += 4) {
    const unsigned alpha = rgba[3];
    for (int c = 0; c < 3; ++c) {
      out[c * size + i] = static_cast<std::uint8_t>((rgba[c] * alpha + 255 * (255 - alpha) + 127) / 255);
    }
  }
}

Picture decode_picture(std::string_view bytes, std::string_view origin) {
  if (bytes.empty())
    fail(Code::kDataCorruption, "[data] {}: is empty (0 bytes), expected a JPEG, PNG or WebP image", origin);
  if (bytes.size() > kMaxImageBytes) {
    fail(Code::kExhausted, "[data] {}: {} bytes, at most {} are decoded", origin, bytes.size(), kMaxImageBytes);
  }
  const auto decode = decoder_of(bytes);
  if (!decode) fail_foreign(bytes, origin);
  return upright(decode(bytes, origin), orientation_of(bytes));
}

}  // namespace recast
