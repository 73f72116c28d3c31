#pragma once
// A vision transformer small enough for tests: 16 px images, 4 px patches, width 32, 2 heads, depth 2 unless asked
// otherwise; every tensor random and large enough to matter.
#include <ATen/ATen.h>

#include <cmath>
#include <cstdint>
#include <string>

#include "recast/base/key.h"
#include "recast/model/model_files.h"

namespace recast {

inline VitConfig toy_vit_config(std::int64_t depth = 2) {
  VitConfig vit;
  vit.depth = depth;
  vit.width = 32;
  vit.heads = 2;
  vit.mlp_width = 64;
  vit.patch_px = 4;
  vit.grid = 4;
  return vit;
}

/// Random weights: gains and LayerScale around 1, matrices with the spread that keeps activations of size 1.
inline NamedTensors toy_tensors(const VitConfig& vit, std::uint64_t seed) {
  NamedTensors tensors;
  for (const auto& [name, shape] : backbone_tensors(vit)) {
    at::Tensor drawn = Key(seed).fold(name).normal(shape);
    if (shape.size() > 1 && name.ends_with(".weight")) {
      drawn = drawn / std::sqrt(static_cast<double>(drawn[0].numel()));
    } else {
      drawn = drawn * 0.3;
    }
    const bool gain = (name.ends_with(".weight") && shape.size() == 1) || name.ends_with(".scale");
    tensors[name] = gain ? drawn + 1 : drawn;
  }
  return tensors;
}

/// Not mimicked; `mimic()` takes it from there.
inline ModelFiles toy_vit(std::uint64_t seed = 1, const VitConfig& vit = toy_vit_config()) {
  ModelFiles files;
  files.config.architecture = "toy_vit";
  files.config.network = vit;
  files.config.preprocessing.size_px = vit.grid * vit.patch_px;
  files.backbone = toy_tensors(vit, seed);
  return files;
}

/// Normalised pixels [batch, 3, size_px, size_px], fp32.
inline at::Tensor toy_images(std::int64_t batch, std::int64_t size_px = 16, std::uint64_t seed = 7) {
  return Key(seed).fold("images").normal({batch, 3, size_px, size_px});
}

}  // namespace recast
