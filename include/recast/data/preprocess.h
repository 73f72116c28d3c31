#pragma once
#include <ATen/core/Tensor.h>

#include "recast/data/preprocessing.h"

namespace recast {

/// Shorter side to floor(size_px / crop_pct), antialiased, then the centre square: torchvision's Resize and CenterCrop
/// of a Pillow image, bit by bit. `image` uint8 [3, H, W], CPU; returns uint8 [3, S, S], contiguous, new memory. Throws
/// kShapeMismatch, and kInvalidArgument as check().
at::Tensor evaluation_pixels(const at::Tensor& image, const Preprocessing& p);

/// (x / 255 - mean) / std. `pixels` uint8 [B, 3, S, S] on any device; returns float32 there, same shape, contiguous.
at::Tensor normalise(const at::Tensor& pixels, const Preprocessing& p);

}  // namespace recast
