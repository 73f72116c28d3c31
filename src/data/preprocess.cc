#include "recast/data/preprocess.h"

#include <ATen/ATen.h>

#include <array>
#include <cmath>

#include "recast/base/error.h"
#include "resample.h"

namespace recast {
namespace {

struct Size {
  std::int64_t height, width;
};

// torchvision's Resize(int): the long side is truncated, not rounded.
Size resized(Size from, std::int64_t shorter) {
  const auto longer = [shorter](std::int64_t a, std::int64_t b) {
    return static_cast<std::int64_t>(static_cast<double>(shorter * a) / static_cast<double>(b));
  };
  if (from.width <= from.height) return {longer(from.height, from.width), shorter};
  return {shorter, longer(from.width, from.height)};
}

// Python's round() of a half, as torchvision's CenterCrop: to the even neighbour.
std::int64_t crop_start(std::int64_t side, std::int64_t crop) {
  return static_cast<std::int64_t>(std::nearbyint(static_cast<double>(side - crop) / 2.0));
}

}  // namespace

at::Tensor evaluation_pixels(const at::Tensor& image, const Preprocessing& p) {
  check(p);
  if (image.dim() != 3 || image.size(0) != 3 || image.scalar_type() != at::kByte || image.numel() == 0) {
    fail(Code::kShapeMismatch, "[data] an image is uint8 [3, H, W], got {} of rank {}",
         c10::toString(image.scalar_type()), image.dim());
  }
  const auto shorter = static_cast<std::int64_t>(std::floor(static_cast<double>(p.size_px) / p.crop_pct));
  const Size size = resized({image.size(1), image.size(2)}, shorter);
  const auto window = [&p](std::int64_t from, std::int64_t to) {
    return Axis{from, to, crop_start(to, p.size_px), p.size_px};
  };
  return resample(image.contiguous(), window(image.size(1), size.height), window(image.size(2), size.width),
                  p.interpolation == "bicubic" ? Filter::kBicubic : Filter::kBilinear);
}

at::Tensor normalise(const at::Tensor& pixels, const Preprocessing& p) {
  if (pixels.dim() != 4 || pixels.size(1) != 3 || pixels.scalar_type() != at::kByte) {
    fail(Code::kShapeMismatch, "[data] a batch of pixels is uint8 [B, 3, S, S], got {} of rank {}",
         c10::toString(pixels.scalar_type()), pixels.dim());
  }
  const auto column = [&](const std::array<double, 3>& v) {
    return at::tensor(at::ArrayRef<double>(v), at::kFloat).view({1, 3, 1, 1}).to(pixels.device());
  };
  at::Tensor x = pixels.to(at::kFloat, /*non_blocking=*/false, /*copy=*/false, at::MemoryFormat::Contiguous);
  return x.div_(255).sub_(column(p.mean)).div_(column(p.std));
}

}  // namespace recast
