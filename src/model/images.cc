#include "images.h"

#include <fmt/ranges.h>

#include "recast/base/error.h"

namespace recast {

void check_images(const at::Tensor& input) {
  if (input.dim() != 4 || input.size(1) != 3) {
    fail(Code::kShapeMismatch, "[model] input is [{}], expected [B, 3, height, width]", fmt::join(input.sizes(), ", "));
  }
  if (!input.is_floating_point()) {
    fail(Code::kShapeMismatch, "[model] input is of type {}, expected normalised pixels in floating point",
         c10::toString(input.scalar_type()));
  }
}

at::ScalarType stream_dtype(const at::Tensor& input) {
  return input.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

}  // namespace recast
