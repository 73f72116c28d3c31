#pragma once
// Convolutional networks small enough for tests: 16 px images, batch norms with statistics that matter, every tensor
// random. toy_images() of toy_vit.h are their images too.
#include <ATen/ATen.h>

#include <cmath>
#include <cstdint>
#include <string>

#include "model/toy_vit.h"
#include "recast/base/key.h"
#include "recast/model/model_files.h"

namespace recast {

/// Two stages of three blocks each, 8 and 16 channels wide, for block "basic" or "bottleneck" a ResNet (layer1.0 to
/// layer2.2, features [B, 16]), for "inverted" an EfficientNet (blocks.0.0 separable, blocks.1.0 to blocks.2.2 inverted
/// with kernels 3 and 5, conv_head, features [B, 24]). The last map is 4 x 4.
inline CnnConfig toy_cnn_config(const std::string& block = "basic") {
  CnnConfig cnn;
  cnn.stem_channels = 8;
  cnn.stem_kernel = 3;
  cnn.stem_stride = 2;
  cnn.stem_pool = false;
  if (block != "inverted") {
    const std::int64_t expansion = block == "bottleneck" ? 4 : 1;
    cnn.stages = {{block, 3, 8, 3, 1, expansion}, {block, 3, 16, 3, 2, expansion}};
    return cnn;
  }
  cnn.stages = {{"separable", 1, 6, 3, 1, 1}, {"inverted", 3, 8, 3, 1, 2}, {"inverted", 3, 12, 5, 2, 2}};
  cnn.head_channels = 24;
  cnn.activation = "relu6";
  cnn.padding = "same";
  cnn.norm_eps = 1e-3;
  return cnn;
}

/// Kernels with the spread that keeps activations of size 1, gains around 1, variances in 0.5..1.5.
inline NamedTensors toy_tensors(const CnnConfig& cnn, std::uint64_t seed) {
  NamedTensors tensors;
  for (const auto& [name, shape] : backbone_tensors(cnn)) {
    const Key key = Key(seed).fold(name);
    if (shape.size() > 1) {
      const at::Tensor drawn = key.normal(shape);
      tensors[name] = drawn * std::sqrt(2 / static_cast<double>(drawn[0].numel()));
    } else if (name.ends_with(".running_var")) {
      tensors[name] = key.uniform(shape) + 0.5;
    } else {
      tensors[name] = key.normal(shape) * 0.3 + (name.ends_with(".weight") ? 1 : 0);
    }
  }
  return tensors;
}

/// Not mimicked; `mimic()` with target conv takes it from there.
inline ModelFiles toy_cnn(std::uint64_t seed = 1, const CnnConfig& cnn = toy_cnn_config()) {
  ModelFiles files;
  files.config.architecture = "toy_cnn";
  files.config.network = cnn;
  files.config.preprocessing.size_px = 16;
  files.backbone = toy_tensors(cnn, seed);
  return files;
}

}  // namespace recast
