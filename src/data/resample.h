#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

namespace recast {

enum class Filter { kBilinear, kBicubic };  ///< bicubic with a = -0.5

/// One axis of a resize: `from` pixels become `to`, of which those at begin .. begin + count are wanted.
struct Axis {
  std::int64_t from, to, begin, count;
};

/// Antialiased resize of uint8 [3, H, W] contiguous, in Pillow 13's arithmetic to the bit: one axis after the other, in
/// fixed point of 22 bits, rounded to bytes in between. Computes the wanted window only. Returns uint8 [3, down.count,
/// across.count], contiguous.
at::Tensor resample(const at::Tensor& image, const Axis& down, const Axis& across, Filter filter);

}  // namespace recast
