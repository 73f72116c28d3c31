#pragma once
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <variant>
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

/// A run of blocks of one kind in a convolutional network; the first block takes `stride` and the change of channels.
///   basic       3 x 3 (stride), 3 x 3                                     ResNet-18 and -34, the CIFAR ResNets
///   bottleneck  1 x 1 to channels / expansion, 3 x 3 (stride), 1 x 1      ResNet-50
///   separable   depthwise (stride), 1 x 1                                 EfficientNet's first stage
///   inverted    1 x 1 to input channels * expansion, depthwise (stride), 1 x 1: MBConv without squeeze-and-excitation
struct CnnStage {
  std::string block = "basic";
  std::int64_t blocks = 1, channels = 64;  ///< channels: what each block gives
  std::int64_t kernel = 3, stride = 1;     ///< kernel: of the convolution that is not 1 x 1
  std::int64_t expansion = 1;
  bool operator==(const CnnStage&) const = default;
};

/// Shape of a convolutional network: stem, stages, perhaps a 1 x 1 convolution, global average pool. No convolution has
/// a bias, each is followed by a batch norm with running statistics. All stages are ResNet's (basic, bottleneck: the
/// sum of a block is activated, every block has a shortcut) or all EfficientNet's (a shortcut where shapes allow, not
/// activated).
struct CnnConfig {
  std::int64_t stem_channels = 64, stem_kernel = 7, stem_stride = 2;
  bool stem_pool = true;  ///< 3 x 3 max pool of stride 2 after the stem
  std::vector<CnnStage> stages;
  std::int64_t head_channels = 0;       ///< of a 1 x 1 convolution before the pool; 0: none
  std::string shortcut = "projection";  ///< where a ResNet block changes shape: 1 x 1 convolution and norm (option B)
                                        ///< | pad: every stride-th pixel, zero channels (option A, CIFAR)
  std::string activation = "relu";      ///< | relu6
  std::string padding = "symmetric";    ///< k / 2 on both sides | same: TensorFlow's, the odd pixel right and below
  double norm_eps = 1e-5;
  bool operator==(const CnnConfig&) const = default;
};

using Network = std::variant<VitConfig, CnnConfig>;

/// The banks of a mimicked directory: L/G runs of equal-shaped slots share n templates each.
struct BankConfig {
  std::string target;  ///< attn | mlp | attn+mlp | all | conv; empty: not mimicked
  std::int64_t groups = 0;
  std::int64_t templates = 0;  ///< n of every bank; 0: each bank has as many as slots
  std::int64_t sets = 0;
  std::string solver;
  struct Group {
    std::string name;
    std::vector<std::string> slots;
  };  ///< tensor "NAME.templates" [n, shape...]
  std::vector<Group> members;

  /// n of one bank.
  std::int64_t templates_of(const Group& group) const {
    return templates > 0 ? templates : static_cast<std::int64_t>(group.slots.size());
  }
};

/// What is wrong with a shape, in a few words ("7 heads do not divide width 384"); empty if nothing is.
std::string fault_of(const VitConfig&);
std::string fault_of(const CnnConfig&);
std::string fault_of(const Network&);

/// config.json of a model directory. Format version 1; a newer one is refused (kUnsupported).
struct ModelConfig {
  std::string architecture;  ///< timm's name, or one of those that architecture() adds
  Network network;           ///< under the key "vit" or "cnn"
  Preprocessing preprocessing;
  BankConfig bank;

  /// The network where it is known to be of this kind; std::bad_variant_access where it is not.
  VitConfig& vit() { return std::get<VitConfig>(network); }
  const VitConfig& vit() const { return std::get<VitConfig>(network); }
  CnnConfig& cnn() { return std::get<CnnConfig>(network); }
  const CnnConfig& cnn() const { return std::get<CnnConfig>(network); }
  /// "vit" or "cnn".
  const char* network_key() const { return std::holds_alternative<VitConfig>(network) ? "vit" : "cnn"; }

  nlohmann::json to_json() const;
  /// Throws kDataCorruption naming the key: missing, of the wrong type, out of range, unknown.
  static ModelConfig from_json(const nlohmann::json&, std::string_view origin);
};

/// The config that timm's `name` stands for, timm's own preprocessing included. A tag of timm's pretrained weights
/// (`vit_small_patch16_224.dino`, `resnet50.tv2_in1k`) is accepted: it decides how images are prepared where that
/// differs, and is not kept in `architecture`. Beside timm's there are resnet20_cifar, resnet32_cifar, resnet44_cifar
/// and resnet56_cifar (widths 16, 32, 64; the tag cifar100 takes that data's mean and deviation instead of CIFAR-10's).
/// Throws kUnsupported with the nearest name and the list.
ModelConfig architecture(const std::string& name);
std::vector<std::string> architecture_names();

}  // namespace recast
