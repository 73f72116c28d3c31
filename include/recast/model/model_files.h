#pragma once
#include <filesystem>
#include <memory>
#include <string>

#include "recast/format/tensor_file.h"
#include "recast/model/backbone.h"
#include "recast/model/config.h"

namespace recast {

/// What config.json, backbone.safetensors and bank.safetensors of a model directory hold, checked against each other.
struct ModelFiles {
  ModelConfig config;
  NamedTensors backbone;   ///< frozen weights that no bank covers, by recast's names ("blocks.0.attn.qkv.weight")
  NamedTensors bank;       ///< "GROUP.templates" [n, shape...], "SLOT.coefficients" [K, n]; empty if not mimicked

  /// SHA-256 (hex) over architecture and preprocessing (canonical JSON) and, sorted by name, over name, dtype, shape
  /// and bytes of every tensor of both files; metadata and padding do not count.
  std::string fingerprint() const;
};

/// Throws kNotFound (folder or file), kDataCorruption, kShapeMismatch (a tensor missing, extra or of another shape than
/// the config says, named), never writes.
ModelFiles read_model_files(const std::filesystem::path& directory);
/// Writes into a new directory, whole or not at all. Throws kAlreadyExists unless `force`; with `force` only a
/// directory that holds a config.json of recast, or an empty one, is replaced.
void write_model_files(const std::filesystem::path& directory, const ModelFiles&, bool force);

/// The network. Checks every tensor's presence, shape and finiteness again, so that hand-made ModelFiles are safe too.
std::shared_ptr<const Backbone> make_backbone(const ModelFiles&);

/// A checkpoint's tensors turned into ModelFiles, and its own classifier where it has one.
struct ImportedCheckpoint {
  ModelFiles files;
  at::Tensor classifier_weight, classifier_bias;   ///< [C, D] and [C]; undefined if the checkpoint has none
  std::string naming;                              ///< timm | huggingface | torchvision
};
/// Recognises timm, Hugging Face (ViTModel, ViTForImageClassification, Dinov2Model, Dinov2WithRegisters,
/// Dinov2ForImageClassification) and torchvision names for the architecture of `config`.
/// Throws kShapeMismatch naming the tensors that are missing, extra or misshapen; kDataCorruption on NaN or infinity.
ImportedCheckpoint import_checkpoint(NamedTensors checkpoint, ModelConfig config, std::string_view origin);

}  // namespace recast
