#pragma once
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace recast {

/// The name of the task that a checkpoint's own classifier becomes.
inline constexpr const char* kPretrainedTask = "pretrained";

struct ImportRequest {
  std::filesystem::path checkpoint;  ///< safetensors with names that import_checkpoint() knows
  std::string architecture;          ///< timm's name
  std::filesystem::path out;         ///< the new model directory
  bool force = false;                ///< replace an existing model directory
  // Preprocessing where it differs from the architecture's own.
  std::optional<std::array<double, 3>> mean, std;
  std::optional<std::string> interpolation;
  std::optional<double> crop_pct;
  std::optional<std::int64_t> image_size;
  std::optional<std::string> pooling;  ///< features of a vision transformer: token, average, token+average
  std::filesystem::path labels;        ///< one a line for the classifier; empty: class_0, class_1, ...
};

/// Turns a checkpoint into a new model directory; its classifier, if it has one, becomes the task `pretrained`.
/// Returns {directory, architecture, naming, fingerprint, parameters, bytes, preprocessing, vit or cnn,
///          task: {name, classes} or null}.
/// Throws  kNotFound (files), kUnsupported (no safetensors, unknown architecture or names), kShapeMismatch (tensors
///         that do not fit; labels that do not count as many as the classifier's rows), kDataCorruption,
///         kAlreadyExists, kInvalidArgument (preprocessing out of range, labels without a classifier).
nlohmann::json import_model(const ImportRequest& request);

}  // namespace recast
