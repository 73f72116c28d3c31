#pragma once
// What is done to every pixel between a file and a network, on planes of bytes. All instruction sets give the same
// bits: whole numbers, or one fp32 operation after the other in the order that is written here, none of them fused.
#include <cstdint>
#include <span>
#include <vector>

namespace recast {

/// What each output pixel of a row is made of: sum_t weights[t * stride + x] * from[begin[x] + t], in fixed point.
struct TapTable {
  std::int64_t count = 0;   ///< output pixels
  std::int64_t stride = 0;  ///< count and more, so that whole vectors are there
  std::int64_t taps = 0;    ///< of each pixel, a multiple of 4; those that are too many weigh nothing
  std::vector<std::int32_t> begin, weights;
};

/// Bits behind the point of a tap's weight: 8 for the pixel and 2 for weights that add up to more than one in size
/// leave 22 of 32.
inline constexpr int kTapBits = 22;

/// Threads: all calls in parallel.
struct PixelKernels {
  const char* isa;
  bool (*usable)();
  /// One row. Bytes from `from` to that of the last tap are read, also of taps that weigh nothing.
  void (*across)(const std::uint8_t* from, const TapTable& table, std::uint8_t* to);
  /// One row of `width` out of `taps` rows that lie `width` apart.
  void (*down)(const std::uint8_t* from, std::int64_t width, const std::int32_t* weights, std::int64_t taps,
               std::uint8_t* to);
  /// to = own x + part, cut to a byte.
  void (*blend)(const std::uint8_t* from, std::int64_t count, float own, float part, std::uint8_t* to);
  /// to = own x + rest grey(r, g, b), of three planes of `size`.
  void (*saturate)(const std::uint8_t* planes, std::int64_t size, float own, float rest, std::uint8_t* to);
  /// The sum of grey(r, g, b) = 0.2989 r + 0.587 g + 0.114 b, each cut to a byte.
  std::int64_t (*sum_grey)(const std::uint8_t* planes, std::int64_t size);
  /// Hue shifted by part of a turn, -0.5..0.5, through HSV as in torchvision.
  void (*turn_hue)(const std::uint8_t* planes, std::int64_t size, float shift, std::uint8_t* to);
};

/// Best first; the last one runs everywhere.
std::span<const PixelKernels> pixel_kernels();
/// The first that this processor has.
const PixelKernels& best_pixel_kernels();

}  // namespace recast
