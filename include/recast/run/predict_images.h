#pragma once
#include <atomic>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "recast/run/model_directory.h"
#include "recast/train/learn.h"

namespace recast {

struct PredictRequest {
  std::string task;                           ///< "NAME" or "NAME:VERSION"; empty: the bare backbone, features only
  std::vector<std::filesystem::path> images;  ///< JPEG, PNG or WebP files
  std::int64_t top = 5;                       ///< how many classes to name, at most all
  std::filesystem::path features;             ///< safetensors file for the features; empty: none
  bool force = false;                         ///< replace `features`
  bool bf16 = false;
  const std::atomic<bool>* stop = nullptr;
  Listener* listener = nullptr;
};

/// Classifies images; a row's result does not depend on the others. Returns {task, version, labels,
///  predictions: [{image, label, probability, top: [{label, probability}], logits: [C]}]}, in the order given.
/// The features file: tensor "features" fp32 [N, D], metadata images (JSON list of paths), task, version, fingerprint.
/// Throws  kNotFound (task, image), as decode_image(), kInvalidArgument (no image, top), kAlreadyExists (features).
nlohmann::json predict_images(const ModelDirectory& directory, const PredictRequest& request);

}  // namespace recast
