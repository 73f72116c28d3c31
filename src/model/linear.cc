#include "linear.h"

#include <ATen/ATen.h>

namespace recast {

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const at::Tensor w = weight.to(x.scalar_type());
  return bias.defined() ? at::linear(x, w, bias.to(x.scalar_type())) : at::linear(x, w);
}

}  // namespace recast
