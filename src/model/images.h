#pragma once
#include <ATen/core/Tensor.h>

namespace recast {

/// Throws kShapeMismatch unless `input` is [B, 3, height, width] in floating point.
void check_images(const at::Tensor& input);

/// The dtype of a network's stream: fp32 whatever dtype the products run in, fp64 for fp64 pixels (numeric checks).
at::ScalarType stream_dtype(const at::Tensor& input);

}  // namespace recast
