#pragma once
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "recast/data/preprocessing.h"

namespace recast {

/// Shape of a vision transformer. Letters: D width, H heads.
struct VitConfig {
  std::int64_t depth = 12, width = 384, heads = 6, mlp_width = 1536;
  std::int64_t patch_px = 16;
  std::int64_t grid = 14;  ///< position grid is grid x grid at the native size grid * patch_px
  std::int64_t register_tokens = 0;
  bool class_token = true;
  bool qkv_bias = true;
  bool layer_scale = false;
  bool class_position = true;  ///< the class token has a position of its own (not in register-token models of timm)
  double norm_eps = 1e-6;
  std::string pooling = "token";                        ///< token | average | token+average (features [B, 2D])
  std::string pos_interpolation = "bicubic_antialias";  ///< | bicubic
};

/// The banks of a mimicked directory: L/G runs of equal-shaped slots share n templates each.
struct BankConfig {
  std::string target;  ///< attn | mlp | attn+mlp | all; empty: not mimicked
  std::int64_t groups = 0, templates = 0, sets = 0;
  std::string solver;
  struct Group {
    std::string name;
    std::vector<std::string> slots;
  };  ///< tensor "NAME.templates" [n, shape...]
  std::vector<Group> members;
};

/// What is wrong with a shape, in a few words ("7 heads do not divide width 384"); empty if nothing is.
std::string fault_of(const VitConfig&);

/// config.json of a model directory. Format version 1; a newer one is refused (kUnsupported).
struct ModelConfig {
  std::string architecture;  ///< timm's name
  VitConfig vit;
  Preprocessing preprocessing;
  BankConfig bank;

  nlohmann::json to_json() const;
  /// Throws kDataCorruption naming the key: missing, of the wrong type, out of range, unknown.
  static ModelConfig from_json(const nlohmann::json&, std::string_view origin);
};

/// The config that timm's `name` stands for, timm's own preprocessing included. A tag of timm's pretrained weights
/// (`vit_small_patch16_224.dino`) is accepted: it decides how pixels are normalised where that differs, and is not kept
/// in `architecture`. Throws kUnsupported with the nearest name and the list.
ModelConfig architecture(const std::string& name);
std::vector<std::string> architecture_names();

}  // namespace recast
