#pragma once
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "recast/format/tensor_file.h"
#include "recast/model/backbone.h"
#include "recast/model/config.h"

namespace recast {

/// Shapes by name.
using TensorShapes = std::map<std::string, std::vector<std::int64_t>, std::less<>>;

/// Every tensor of a backbone before mimicry, by recast's names, all fp32: SLOT.weight and SLOT.bias for weight and
/// norm slots, blocks.N.attn.scale and blocks.N.mlp.scale (LayerScale) [D], class_token [D], class_position [D],
/// register_tokens [R, D], positions [grid, grid, D].
TensorShapes backbone_tensors(const VitConfig&);
/// SLOT.weight [out, in / groups, k, k] for each convolution; SLOT.weight, .bias, .running_mean and .running_var
/// [channels] for each norm.
TensorShapes backbone_tensors(const CnnConfig&);
TensorShapes backbone_tensors(const Network&);

/// What config.json, backbone.safetensors and bank.safetensors of a model directory hold, checked against each other.
struct ModelFiles {
  ModelConfig config;
  NamedTensors backbone;  ///< frozen weights that no bank covers, by recast's names ("blocks.0.attn.qkv.weight")
  NamedTensors bank;      ///< "GROUP.templates" [n, shape...], "SLOT.coefficients" [K, n]; empty if not mimicked

  /// SHA-256 (hex) over architecture and preprocessing and, sorted by name, over name, dtype, shape and bytes of every
  /// tensor of both files; metadata and padding do not count. Byte by byte: the canonical JSON of {architecture,
  /// vit or cnn, preprocessing, groups}, where groups maps each bank to its slots ({} if not mimicked) since that
  /// decides what the tensors mean; then for each tensor of both files together, by name: a line feed, name, line feed,
  /// "F32", line feed, shape as JSON without spaces ("[1152,384]"), line feed, the elements in little endian,
  /// row-major.
  std::string fingerprint() const;
};

/// Throws kNotFound (folder or file), kDataCorruption, kShapeMismatch (a tensor missing, extra or of another shape than
/// the config says, named), never writes.
ModelFiles read_model_files(const std::filesystem::path& directory);
/// Writes into a new directory, whole or not at all. Throws kAlreadyExists unless `force`; with `force` only a
/// directory that holds a config.json of recast, or an empty one, is replaced.
void write_model_files(const std::filesystem::path& directory, const ModelFiles&, bool force);
/// What write_model_files() would refuse to write to (kAlreadyExists), before the work that leads there.
void check_model_target(const std::filesystem::path& directory, bool force);

/// Throws what is wrong with `files`: kShapeMismatch (tensors missing, extra, of another shape or dtype, up to five of
/// each named), kDataCorruption (NaN, infinity, groups that contradict the config). `origin` names them in messages.
void check_files(const ModelFiles& files, std::string_view origin);

/// The network, its tensors on `device` (shared with `files` where they are there already: do not write to them).
/// Throws as check_files(), so that hand-made ModelFiles are safe too; kInvalidArgument for an impossible config.
std::shared_ptr<const Backbone> make_backbone(const ModelFiles& files, at::Device device = at::kCPU);

/// A checkpoint's tensors turned into ModelFiles, and its own classifier where it has one.
struct ImportedCheckpoint {
  ModelFiles files;
  at::Tensor classifier_weight, classifier_bias;  ///< [C, D] and [C]; undefined if the checkpoint has none
  std::string naming;                             ///< timm | huggingface | torchvision | efficientnet-pytorch
};
/// Recognises, for the architecture of `config`:
/// - vision transformers by the names of timm, Hugging Face (ViTModel, ViTForImageClassification, Dinov2Model,
///   Dinov2WithRegisters, Dinov2ForImageClassification) and torchvision;
/// - ResNets by torchvision's names, which are timm's too and those of the usual CIFAR ResNets (classifier `fc` or
///   `linear`, projections `downsample` or `shortcut`);
/// - EfficientNets by the names of timm and of efficientnet_pytorch (_conv_stem, _blocks.0._depthwise_conv, _fc).
/// What the names and tensors tell is written into the config that comes back: norm_eps, pos_interpolation,
/// qkv_bias, class_position, pooling (a Dinov2 classifier reads token+average), torchvision's own preprocessing of
/// vision transformers, TensorFlow's padding and epsilon (efficientnet_pytorch), the CIFAR ResNets' kind of shortcut.
/// fp16, bf16 and fp64 become fp32. Ignored: pooler.*, mask_token, *.num_batches_tracked.
/// Throws kShapeMismatch when the architecture does not fit, saying which one the checkpoint looks like, or naming the
/// tensors that are missing, extra or misshapen (up to five of each); kDataCorruption on NaN or infinity, or where fp64
/// overflows fp32; kUnsupported for names of none of these libraries, a SwiGLU MLP, or integer weights.
ImportedCheckpoint import_checkpoint(NamedTensors checkpoint, ModelConfig config, std::string_view origin);

}  // namespace recast
