#pragma once
#include <ATen/core/Tensor.h>

namespace recast {

/// x [..., in] times weight [out, in] transposed, plus bias [out] where defined, in the dtype of x: weight and bias are
/// cast to it. Differentiable in all three.
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

}  // namespace recast
