#include "recast/data/preprocess.h"

#include <ATen/ATen.h>

#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "recast/base/error.h"
#include "resample.h"

namespace recast {
namespace {

constexpr std::int64_t kMaxSizePx = 4096;

void require(bool holds, std::string_view field, std::string_view expected) {
  if (!holds) fail(Code::kInvalidArgument, "[preprocessing] {} must be {}", field, expected);
}

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

void check(const Preprocessing& p) {
  require(p.size_px >= 1 && p.size_px <= kMaxSizePx, "size_px", fmt::format("1 to {}, got {}", kMaxSizePx, p.size_px));
  require(p.crop_pct >= 0.1 && p.crop_pct <= 1, "crop_pct", fmt::format("0.1 to 1, got {}", p.crop_pct));
  require(p.interpolation == "bicubic" || p.interpolation == "bilinear", "interpolation",
          fmt::format("bicubic or bilinear, got '{}'", p.interpolation));
  for (int c = 0; c < 3; ++c) {
    require(std::isfinite(p.mean[c]), "mean", fmt::format("finite, got {}", p.mean[c]));
    require(std::isfinite(p.std[c]) && p.std[c] > 0, "std", fmt::format("above 0, got {}", p.std[c]));
  }
}

void to_json(nlohmann::json& j, const Preprocessing& p) {
  j = {{"size_px", p.size_px},
       {"crop_pct", p.crop_pct},
       {"interpolation", p.interpolation},
       {"mean", p.mean},
       {"std", p.std}};
}

void from_json(const nlohmann::json& j, Preprocessing& p) {
  try {
    Preprocessing read{j.at("size_px").get<std::int64_t>(), j.at("crop_pct").get<double>(),
                       j.at("interpolation").get<std::string>(), j.at("mean").get<std::array<double, 3>>(),
                       j.at("std").get<std::array<double, 3>>()};
    if (j["mean"].size() != 3 || j["std"].size() != 3) {
      fail(Code::kDataCorruption, "[preprocessing] mean and std have three numbers each, got {} and {}",
           j["mean"].size(), j["std"].size());
    }
    check(read);
    p = std::move(read);
  } catch (const nlohmann::json::exception& e) {
    fail(Code::kDataCorruption, "[preprocessing] bad description: {}", e.what());
  } catch (const Error& e) {
    fail(Code::kDataCorruption, "{}", e.what());
  }
}

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
