#include <fmt/ranges.h>

#include <array>

#include "recast/base/error.h"
#include "recast/model/config.h"

namespace recast {
namespace {

enum class Family { kAugreg, kDeit, kDino, kDinov2, kDinov2Registers };

struct Row {
  const char* name;
  std::int64_t depth, width, heads, patch_px, size_px;
  Family family;
};

// timm's registry, timm/models/vision_transformer.py and deit.py, version 1.0: the ones with a GELU MLP of four times
// the width, learned absolute positions and nothing else.
constexpr auto kRows = std::to_array<Row>({
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

VitConfig shape_of(const Row& row) {
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
Preprocessing preprocessing_of(const Row& row, std::string_view tag) {
  Preprocessing p;
  p.size_px = row.size_px;
  p.crop_pct = row.size_px == 224 ? 0.9 : 1.0;
  p.interpolation = "bicubic";
  const bool imagenet_pixels = row.family != Family::kAugreg || tag == "dino" || tag == "mae";
  if (!imagenet_pixels) p.mean = p.std = {0.5, 0.5, 0.5};
  return p;
}

}  // namespace

std::vector<std::string> architecture_names() {
  std::vector<std::string> names;
  for (const Row& row : kRows) names.emplace_back(row.name);
  return names;
}

ModelConfig architecture(const std::string& name) {
  const std::string::size_type dot = name.find('.');
  const std::string base = name.substr(0, dot);
  const std::string tag = dot == std::string::npos ? "" : name.substr(dot + 1);
  for (const Row& row : kRows) {
    if (base == row.name) return {row.name, shape_of(row), preprocessing_of(row, tag), {}};
  }
  if (base.starts_with("vit_giant") && base.ends_with("dinov2")) {
    fail(Code::kUnsupported,
         "[model] {} has a SwiGLU MLP, which recast does not compute: take a small, base or large one", base);
  }
  const std::string near = nearest(base, architecture_names());
  fail(Code::kUnsupported, "[model] unknown architecture {}{}; known: {}", name,
       near.empty() ? "" : ", did you mean " + near + "?", fmt::join(architecture_names(), ", "));
}

}  // namespace recast
