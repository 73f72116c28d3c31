#include "recast/data/augment.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

#include "pixel_kernels.h"
#include "recast/base/error.h"

namespace recast {
namespace {

// uint8 [3, H, W] as three planes.
struct Planes {
  at::Tensor tensor;
  std::int64_t height, width, size;
  std::uint8_t* r;

  explicit Planes(const at::Tensor& t)
      : tensor(t.contiguous()),
        height(t.size(1)),
        width(t.size(2)),
        size(height * width),
        r(tensor.data_ptr<std::uint8_t>()) {}
};

void require_pixels(const at::Tensor& t) {
  if (t.dim() != 3 || t.size(0) != 3 || t.scalar_type() != at::kByte || !t.device().is_cpu()) {
    fail(Code::kShapeMismatch, "[data] augmentation takes uint8 [3, H, W] on the CPU, got {} of rank {}",
         c10::toString(t.scalar_type()), t.dim());
  }
}

void require_finite(double value, std::string_view what) {
  if (!std::isfinite(value)) fail(Code::kInvalidArgument, "[data] {} must be finite, got {}", what, value);
}

double mean_grey(const Planes& p) {
  return p.size ? static_cast<double>(best_pixel_kernels().sum_grey(p.r, p.size)) / static_cast<double>(p.size) : 0;
}

/// factor x + (1 - factor) other, for one `other`.
at::Tensor blend_with(const at::Tensor& pixels, double factor, double other) {
  require_finite(factor, "a colour factor");
  const Planes in(pixels);
  at::Tensor out = at::empty_like(in.tensor);
  const float own = static_cast<float>(factor), part = static_cast<float>(1 - factor) * static_cast<float>(other);
  best_pixel_kernels().blend(in.r, 3 * in.size, own, part, out.data_ptr<std::uint8_t>());
  return out;
}

double between(const Key& key, double low, double high) { return low + (high - low) * key.uniform(); }

double factor(const Key& key, double amount) { return between(key, std::max(0.0, 1 - amount), 1 + amount); }

at::Tensor jitter(at::Tensor x, const Augmentation& a, const Key& key) {
  for (const auto step : key.fold("order").permutation(4)) {
    if (step == 0 && a.brightness > 0) x = adjust_brightness(x, factor(key.fold("brightness"), a.brightness));
    if (step == 1 && a.contrast > 0) x = adjust_contrast(x, factor(key.fold("contrast"), a.contrast));
    if (step == 2 && a.saturation > 0) x = adjust_saturation(x, factor(key.fold("saturation"), a.saturation));
    if (step == 3 && a.hue > 0) x = adjust_hue(x, between(key.fold("hue"), -a.hue, a.hue));
  }
  return x;
}

at::Tensor move(const at::Tensor& x, const Augmentation& a, const Key& key) {
  const auto shift = [&](std::string_view name, std::int64_t side) {
    const double most = a.translate * static_cast<double>(side);
    return std::nearbyint(between(key.fold(name), -most, most));
  };
  return affine(x, between(key.fold("angle"), -a.degrees, a.degrees), shift("shift_x", x.size(2)),
                shift("shift_y", x.size(1)), between(key.fold("scale"), a.scale_min, a.scale_max));
}

}  // namespace

Augmentation Augmentation::flips() { return {.flip = true}; }

Augmentation Augmentation::paper() {
  return {.flip = true,
          .brightness = 0.4,
          .contrast = 0.4,
          .saturation = 0.4,
          .hue = 0.2,
          .degrees = 10,
          .translate = 0.1,
          .scale_min = 0.9,
          .scale_max = 1.1};
}

Augmentation Augmentation::named(std::string_view name) {
  if (name == "none") return none();
  if (name == "flips") return flips();
  if (name == "paper") return paper();
  const auto guess = nearest(name, {"none", "flips", "paper"});
  fail(Code::kInvalidArgument, "[data] unknown augmentation '{}'{}; there are none, flips, paper", name,
       guess.empty() ? "" : ", did you mean '" + guess + "'?");
}

at::Tensor augment(const at::Tensor& pixels, const Augmentation& a, const Key& key) {
  require_pixels(pixels);
  at::Tensor x = pixels;
  if (a.flip && key.fold("flip").uniform() < 0.5) x = flip_horizontally(x);
  if (a.brightness > 0 || a.contrast > 0 || a.saturation > 0 || a.hue > 0) x = jitter(x, a, key);
  if (a.degrees > 0 || a.translate > 0 || a.scale_min != 1 || a.scale_max != 1) x = move(x, a, key);
  return x;
}

at::Tensor flip_horizontally(const at::Tensor& pixels) {
  require_pixels(pixels);
  return pixels.flip({2});
}

at::Tensor adjust_brightness(const at::Tensor& pixels, double factor) {
  require_pixels(pixels);
  return blend_with(pixels, factor, 0);
}

at::Tensor adjust_contrast(const at::Tensor& pixels, double factor) {
  require_pixels(pixels);
  return blend_with(pixels, factor, mean_grey(Planes(pixels)));
}

at::Tensor adjust_saturation(const at::Tensor& pixels, double factor) {
  require_pixels(pixels);
  require_finite(factor, "a colour factor");
  const Planes in(pixels);
  at::Tensor out = at::empty_like(in.tensor);
  best_pixel_kernels().saturate(in.r, in.size, static_cast<float>(factor), static_cast<float>(1 - factor),
                                out.data_ptr<std::uint8_t>());
  return out;
}

at::Tensor adjust_hue(const at::Tensor& pixels, double shift) {
  require_pixels(pixels);
  if (!(std::abs(shift) <= 0.5)) fail(Code::kInvalidArgument, "[data] hue shift must lie in -0.5..0.5, got {}", shift);
  const Planes in(pixels);
  at::Tensor out = at::empty_like(in.tensor);
  best_pixel_kernels().turn_hue(in.r, in.size, static_cast<float>(shift), out.data_ptr<std::uint8_t>());
  return out;
}

at::Tensor affine(const at::Tensor& pixels, double degrees, double shift_x_px, double shift_y_px, double scale) {
  require_pixels(pixels);
  require_finite(degrees, "an angle");
  require_finite(shift_x_px + shift_y_px, "a shift");
  if (!(scale >= 0.01 && scale <= 100)) {
    fail(Code::kInvalidArgument, "[data] scale must lie in 0.01..100, got {}", scale);
  }
  const Planes in(pixels);
  at::Tensor out = at::zeros_like(in.tensor);
  auto* to = out.data_ptr<std::uint8_t>();

  // Where the centre of output pixel (x, y) comes from: R(-angle) / scale about the centre, in 16.16 fixed point, so
  // that ties fall as they do in Pillow.
  const double angle = degrees * std::numbers::pi / 180, c = std::cos(angle) / scale, s = std::sin(angle) / scale;
  const double cx = static_cast<double>(in.width) / 2, cy = static_cast<double>(in.height) / 2;
  const double dx = 0.5 - cx - shift_x_px, dy = 0.5 - cy - shift_y_px;
  const auto fixed = [](double v) { return static_cast<std::int64_t>(std::floor(v * 65536 + 0.5)); };
  const std::int64_t step_c = fixed(c), step_s = fixed(s), step_minus_s = fixed(-s);
  std::int64_t row_x = fixed(c * dx + s * dy + cx), row_y = fixed(-s * dx + c * dy + cy);
  for (std::int64_t y = 0; y < in.height; ++y, row_x += step_s, row_y += step_c) {
    std::int64_t from_x = row_x, from_y = row_y;
    for (std::int64_t x = 0; x < in.width; ++x, from_x += step_c, from_y += step_minus_s) {
      const std::int64_t column = from_x >> 16, line = from_y >> 16;
      if (column < 0 || column >= in.width || line < 0 || line >= in.height) continue;
      for (int plane = 0; plane < 3; ++plane) {
        to[plane * in.size + y * in.width + x] = in.r[plane * in.size + line * in.width + column];
      }
    }
  }
  return out;
}

}  // namespace recast
