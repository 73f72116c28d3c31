#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace recast {

/// Limits on one image, checked in its header before any pixel memory is taken.
inline constexpr std::uint64_t kMaxImageBytes = 256ull << 20;  ///< compressed
inline constexpr std::uint64_t kMaxImagePixels = 50'000'000;
inline constexpr std::uint64_t kMaxImageSidePx = 20'000;

/// A decoded image without libtorch: what every reader of image files gives, and image.h makes a tensor of.
struct Picture {
  std::int64_t height = 0, width = 0;
  std::unique_ptr<std::uint8_t[]> planes;  ///< [3, height, width], R, G, B

  /// Planes that are not filled yet.
  static Picture of_size(std::int64_t height, std::int64_t width);
  std::int64_t plane_bytes() const { return height * width; }
  std::span<const std::uint8_t> bytes() const { return {planes.get(), static_cast<std::size_t>(3 * plane_bytes())}; }
};

/// decode_image() (image.h says all about it) without libtorch.
Picture decode_picture(std::string_view bytes, std::string_view origin);

}  // namespace recast
