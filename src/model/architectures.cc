#include <fmt/ranges.h>

#include <array>
#include <optional>

#include "recast/base/error.h"
#include "recast/model/config.h"

namespace recast {
namespace {

enum class Family { kAugreg, kDeit, kDino, kDinov2, kDinov2Registers };

struct VitRow {
  const char* name;
  std::int64_t depth, width, heads, patch_px, size_px;
  Family family;
};

// timm's registry, timm/models/vision_transformer.py and deit.py, version 1.0: the ones with a GELU MLP of four times
// the width, learned absolute positions and nothing else.
constexpr auto kVits = std::to_array<VitRow>({
    {"vit_tiny_patch16_224", 12, 192, 3, 16, 224, Family::kAugreg},
    {"vit_tiny_patch16_384", 12, 192, 3, 16, 384, Family::kAugreg},
    {"vit_small_patch32_224", 12, 384, 6, 32, 224, Family::kAugreg},
    {"vit_small_patch32_384", 12, 384, 6, 32, 384, Family::kAugreg},
    {"vit_small_patch16_224", 12, 384, 6, 16, 224, Family::kAugreg},
    {"vit_small_patch16_384", 12, 384, 6, 16, 384, Family::kAugreg},
    {"vit_small_patch8_224", 12, 384, 6, 8, 224, Family::kDino},
    {"vit_base_patch32_224", 12, 768, 12, 32, 224, Family::kAugreg},
    {"vit_base_patch32_384", 12, 768, 12, 32, 384, Family::kAugreg},
    {"vit_base_patch16_224", 12, 768, 12, 16, 224, Family::kAugreg},
    {"vit_base_patch16_384", 12, 768, 12, 16, 384, Family::kAugreg},
    {"vit_base_patch8_224", 12, 768, 12, 8, 224, Family::kAugreg},
    {"vit_large_patch32_224", 24, 1024, 16, 32, 224, Family::kAugreg},
    {"vit_large_patch32_384", 24, 1024, 16, 32, 384, Family::kAugreg},
    {"vit_large_patch16_224", 24, 1024, 16, 16, 224, Family::kAugreg},
    {"vit_large_patch16_384", 24, 1024, 16, 16, 384, Family::kAugreg},
    {"vit_huge_patch14_224", 32, 1280, 16, 14, 224, Family::kAugreg},
    {"deit_tiny_patch16_224", 12, 192, 3, 16, 224, Family::kDeit},
    {"deit_small_patch16_224", 12, 384, 6, 16, 224, Family::kDeit},
    {"deit_base_patch16_224", 12, 768, 12, 16, 224, Family::kDeit},
    {"deit_base_patch16_384", 12, 768, 12, 16, 384, Family::kDeit},
    {"vit_small_patch14_dinov2", 12, 384, 6, 14, 518, Family::kDinov2},
    {"vit_base_patch14_dinov2", 12, 768, 12, 14, 518, Family::kDinov2},
    {"vit_large_patch14_dinov2", 24, 1024, 16, 14, 518, Family::kDinov2},
    {"vit_small_patch14_reg4_dinov2", 12, 384, 6, 14, 518, Family::kDinov2Registers},
    {"vit_base_patch14_reg4_dinov2", 12, 768, 12, 14, 518, Family::kDinov2Registers},
    {"vit_large_patch14_reg4_dinov2", 24, 1024, 16, 14, 518, Family::kDinov2Registers},
});

VitConfig shape_of(const VitRow& row) {
  VitConfig vit;
  vit.depth = row.depth;
  vit.width = row.width;
  vit.heads = row.heads;
  vit.mlp_width = 4 * row.width;
  vit.patch_px = row.patch_px;
  vit.grid = row.size_px / row.patch_px;
  vit.layer_scale = row.family == Family::kDinov2 || row.family == Family::kDinov2Registers;
  vit.register_tokens = row.family == Family::kDinov2Registers ? 4 : 0;
  vit.class_position = row.family != Family::kDinov2Registers;
  return vit;
}

/// What timm's pretrained config of the name says; a tag matters only where its images were normalised differently.
Preprocessing preprocessing_of(const VitRow& row, std::string_view tag) {
  Preprocessing p;
  p.size_px = row.size_px;
  p.crop_pct = row.size_px == 224 ? 0.9 : 1.0;
  p.interpolation = "bicubic";
  const bool imagenet_pixels = row.family != Family::kAugreg || tag == "dino" || tag == "mae";
  if (!imagenet_pixels) p.mean = p.std = {0.5, 0.5, 0.5};
  return p;
}

// He et al., arXiv:1512.03385, tables 1 (ImageNet) and 6 (CIFAR). timm and torchvision agree on the names of the
// former.
struct ResnetRow {
  const char* name;
  const char* block;
  std::array<std::int64_t, 4> blocks;
};
constexpr auto kResnets = std::to_array<ResnetRow>({
    {"resnet18", "basic", {2, 2, 2, 2}},
    {"resnet34", "basic", {3, 4, 6, 3}},
    {"resnet50", "bottleneck", {3, 4, 6, 3}},
    {"resnet101", "bottleneck", {3, 4, 23, 3}},
    {"resnet152", "bottleneck", {3, 8, 36, 3}},
});

CnnConfig shape_of(const ResnetRow& row) {
  const std::int64_t expansion = std::string_view(row.block) == "bottleneck" ? 4 : 1;
  CnnConfig cnn;
  for (std::size_t s = 0; s < row.blocks.size(); ++s)
    cnn.stages.push_back({row.block, row.blocks[s], (64 << s) * expansion, 3, s == 0 ? 1 : 2, expansion});
  return cnn;
}

/// Pretrained weights of timm's ResNets whose images were prepared otherwise than those of a1_in1k, the default; the
/// second ones of torchvision as torchvision prepares them.
struct ResnetTag {
  const char* tag;
  const char* interpolation;
  double crop_pct;
  std::int64_t size_px = 224;
};
constexpr auto kResnetTags = std::to_array<ResnetTag>({
    {"tv_in1k", "bilinear", 0.875},
    {"tv2_in1k", "bilinear", 0.965},
    {"a1h_in1k", "bicubic", 0.9, 176},
    {"a3_in1k", "bicubic", 0.95, 160},
    {"ra4_e3600_r224_in1k", "bicubic", 0.9},
    {"bt_in1k", "bicubic", 0.875},
    {"ram_in1k", "bicubic", 0.875},
    {"ra_in1k", "bicubic", 0.875},
    {"am_in1k", "bicubic", 0.875},
    {"gluon_in1k", "bicubic", 0.875},
    {"fb_ssl_yfcc100m_ft_in1k", "bilinear", 0.875},
    {"fb_swsl_ig1b_ft_in1k", "bilinear", 0.875},
});

Preprocessing resnet_preprocessing(std::string_view tag) {
  Preprocessing p{.size_px = 224, .crop_pct = 0.95, .interpolation = "bicubic"};
  for (const ResnetTag& row : kResnetTags) {
    if (tag != row.tag) continue;
    p.interpolation = row.interpolation;
    p.crop_pct = row.crop_pct;
    p.size_px = row.size_px;
  }
  if (tag == "ra4_e3600_r224_in1k") p.mean = p.std = {0.5, 0.5, 0.5};
  return p;
}

struct CifarRow {
  const char* name;
  std::int64_t blocks;  ///< in each of three stages: 6 n + 2 layers
};
constexpr auto kCifarResnets = std::to_array<CifarRow>(
    {{"resnet20_cifar", 3}, {"resnet32_cifar", 5}, {"resnet44_cifar", 7}, {"resnet56_cifar", 9}});

CnnConfig shape_of(const CifarRow& row) {
  CnnConfig cnn;
  cnn.stem_channels = 16;
  cnn.stem_kernel = 3;
  cnn.stem_stride = 1;
  cnn.stem_pool = false;
  cnn.shortcut = "pad";
  for (int s = 0; s < 3; ++s) cnn.stages.push_back({"basic", row.blocks, 16 << s, 3, s == 0 ? 1 : 2, 1});
  return cnn;
}

Preprocessing cifar_preprocessing(std::string_view tag) {
  Preprocessing p{.size_px = 32, .crop_pct = 1.0, .interpolation = "bilinear"};
  p.mean = {0.4914, 0.4822, 0.4465};
  p.std = {0.2470, 0.2435, 0.2616};
  if (tag == "cifar100") {
    p.mean = {0.5071, 0.4865, 0.4409};
    p.std = {0.2673, 0.2564, 0.2762};
  }
  return p;
}

/// Tan and Le, arXiv:1905.11946, table 1, as its Lite form. timm's two names are one shape: PyTorch's padding and
/// epsilon, or TensorFlow's.
CnnConfig efficientnet_lite0(bool tensorflow) {
  CnnConfig cnn;
  cnn.stem_channels = 32;
  cnn.stem_kernel = 3;
  cnn.stem_pool = false;
  cnn.stages = {{"separable", 1, 16, 3, 1, 1}, {"inverted", 2, 24, 3, 2, 6},  {"inverted", 2, 40, 5, 2, 6},
                {"inverted", 3, 80, 3, 2, 6},  {"inverted", 3, 112, 5, 1, 6}, {"inverted", 4, 192, 5, 2, 6},
                {"inverted", 1, 320, 3, 1, 6}};
  cnn.head_channels = 1280;
  cnn.activation = "relu6";
  if (tensorflow) {
    cnn.padding = "same";
    cnn.norm_eps = 1e-3;
  }
  return cnn;
}

Preprocessing efficientnet_preprocessing(bool tensorflow) {
  Preprocessing p{.size_px = 224, .crop_pct = 0.875, .interpolation = "bicubic"};
  if (tensorflow) p.mean = p.std = {0.5, 0.5, 0.5};
  return p;
}

std::optional<ModelConfig> find(const std::string& base, std::string_view tag) {
  for (const VitRow& row : kVits) {
    if (base == row.name) return ModelConfig{base, shape_of(row), preprocessing_of(row, tag), {}};
  }
  for (const ResnetRow& row : kResnets) {
    if (base == row.name) return ModelConfig{base, shape_of(row), resnet_preprocessing(tag), {}};
  }
  for (const CifarRow& row : kCifarResnets) {
    if (base == row.name) return ModelConfig{base, shape_of(row), cifar_preprocessing(tag), {}};
  }
  const bool tensorflow = base == "tf_efficientnet_lite0";
  if (tensorflow || base == "efficientnet_lite0")
    return ModelConfig{base, efficientnet_lite0(tensorflow), efficientnet_preprocessing(tensorflow), {}};
  return std::nullopt;
}

}  // namespace

std::vector<std::string> architecture_names() {
  std::vector<std::string> names;
  for (const VitRow& row : kVits) names.emplace_back(row.name);
  for (const ResnetRow& row : kResnets) names.emplace_back(row.name);
  for (const CifarRow& row : kCifarResnets) names.emplace_back(row.name);
  names.insert(names.end(), {"efficientnet_lite0", "tf_efficientnet_lite0"});
  return names;
}

ModelConfig architecture(const std::string& name) {
  const std::string::size_type dot = name.find('.');
  const std::string base = name.substr(0, dot);
  if (std::optional<ModelConfig> found = find(base, dot == std::string::npos ? "" : name.substr(dot + 1)))
    return *std::move(found);
  if (base.starts_with("vit_giant") && base.ends_with("dinov2")) {
    fail(Code::kUnsupported,
         "[model] {} has a SwiGLU MLP, which recast does not compute: take a small, base or large one", base);
  }
  const std::string near = nearest(base, architecture_names());
  fail(Code::kUnsupported, "[model] unknown architecture {}{}; known: {}", name,
       near.empty() ? "" : ", did you mean " + near + "?", fmt::join(architecture_names(), ", "));
}

}  // namespace recast
