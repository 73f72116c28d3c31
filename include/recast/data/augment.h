#pragma once
#include <ATen/core/Tensor.h>

#include <string_view>

#include "recast/base/key.h"

namespace recast {

/// Random changes to training images, drawn as torchvision's transforms draw them. The default changes nothing.
/// Order: flip, colour jitter (its four steps in random order), affine.
struct Augmentation {
  bool flip = false;                                    ///< mirror left-right with probability 0.5
  double brightness = 0, contrast = 0, saturation = 0;  ///< a: factor uniform in [max(0, 1 - a), 1 + a]
  double hue = 0;                                       ///< a: shift uniform in [-a, a] of the full circle, a up to 0.5
  double degrees = 0;                                   ///< a: rotation uniform in [-a, a]
  double translate = 0;                 ///< a: shift in x and y uniform in [-a, a] of the side, rounded to whole pixels
  double scale_min = 1, scale_max = 1;  ///< scale uniform in between

  static Augmentation none() { return {}; }
  static Augmentation flips();
  /// The RECAST paper's training images: flip, jitter (0.4, 0.4, 0.4, 0.2), 10 degrees, shift 0.1, scale 0.9 to 1.1.
  static Augmentation paper();
  /// One of these by name: "none", "flips", "paper". Throws kInvalidArgument, with the nearest name.
  static Augmentation named(std::string_view name);

  bool operator==(const Augmentation&) const = default;
};

/// Applies `a` to `pixels` uint8 [3, H, W]; returns uint8 [3, H, W], new memory or `pixels` itself if nothing changes.
/// A pure function of its arguments: same key, same result, in any thread and any order. Throws kShapeMismatch.
at::Tensor augment(const at::Tensor& pixels, const Augmentation& a, const Key& key);

// The steps with explicit parameters, on uint8 [3, H, W], following torchvision.transforms.functional on tensors.
at::Tensor flip_horizontally(const at::Tensor& pixels);
/// factor 0 black, 1 unchanged.
at::Tensor adjust_brightness(const at::Tensor& pixels, double factor);
/// factor 0 the mean grey of the image, 1 unchanged.
at::Tensor adjust_contrast(const at::Tensor& pixels, double factor);
/// factor 0 grey, 1 unchanged.
at::Tensor adjust_saturation(const at::Tensor& pixels, double factor);
/// shift in [-0.5, 0.5] of the hue circle.
at::Tensor adjust_hue(const at::Tensor& pixels, double shift);
/// Rotation about the centre by `degrees` (clockwise on the screen), then `scale`, then the shift in pixels; nearest
/// neighbour, black outside. Sampling positions are Pillow's.
at::Tensor affine(const at::Tensor& pixels, double degrees, double shift_x_px, double shift_y_px, double scale);

}  // namespace recast
