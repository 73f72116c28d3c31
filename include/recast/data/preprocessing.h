#pragma once
#include <array>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace recast {

/// How an image becomes the backbone's input: timm's and torchvision's evaluation transform (recast/data/preprocess.h
/// applies it). Knows nothing of torch.
struct Preprocessing {
  std::int64_t size_px = 224;                          ///< side of the square that the backbone sees, 1 to 4096
  double crop_pct = 1.0;                               ///< share of the resized image that the crop keeps, 0.1 to 1
  std::string interpolation = "bicubic";               ///< or "bilinear"; both antialiased
  std::array<double, 3> mean = {0.485, 0.456, 0.406};  ///< of R, G, B in 0..1
  std::array<double, 3> std = {0.229, 0.224, 0.225};   ///< above 0

  bool operator==(const Preprocessing&) const = default;
};

/// Throws kInvalidArgument naming the field when a value lies outside what is said above.
void check(const Preprocessing& p);

/// Keys: size_px, crop_pct, interpolation, mean, std. Reading throws kDataCorruption on a missing or unknown key, a
/// wrong type (224.0 and true are no whole numbers) or a value out of range.
void to_json(nlohmann::json& j, const Preprocessing& p);
void from_json(const nlohmann::json& j, Preprocessing& p);

}  // namespace recast
