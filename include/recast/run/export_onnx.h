#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "recast/run/model_directory.h"

namespace recast {

/// What `recast export --onnx` is asked for; members are named after its flags.
struct OnnxRequest {
  std::filesystem::path file;
  std::string task;             ///< bake this one in, "NAME[:VERSION|:TAG]"; empty: tasks are inputs of the graph
  std::string like;             ///< cut the coefficients as this task does; empty: as the stored tasks do
  bool per_row = false;         ///< a task for each image of a batch
  std::int64_t image_size = 0;  ///< 0: that of the task, or of the tasks
  bool external_data = false;   ///< weights in FILE.data even where they fit into FILE
  bool force = false;
};

/// Writes the network as an ONNX model (docs/onnx.md) from normalised pixels "image" [N, 3, S, S] to "logits" [N, C].
/// Baked: the task's effective weights and head are constants. Else the task is the inputs "coefficients" [count],
/// "head_weight" [C, D] and "head_bias" [C]; with per_row each has a dimension [N, ...] before these.
/// metadata_props: keys "recast.*", what the graph was made of and how images are prepared.
/// Returns {file, data: path or null, bytes, form: "baked" | "inputs" | "inputs_per_row", architecture, fingerprint,
///  image_size, inputs: [{name, shape}], outputs, task, version, labels (baked), coefficients: count, layout,
///  tasks: [names that fit], other_tasks: [{task, reason}]}.
/// Throws  kNotFound: no task to go by;  kUnsupported: plug-ins that act on more than weights, a head that is not
///         linear, weights that are no sums of templates (not baked), named;  kInvalidArgument: tasks of several
///         layouts or image sizes and neither `like` nor image_size;  kShapeMismatch: the image size;  kAlreadyExists.
nlohmann::json export_onnx(const ModelDirectory& directory, const OnnxRequest& request);

/// Writes a task's inputs for such a graph of the same directory as a safetensors file: "coefficients", "head_weight",
/// "head_bias"; metadata task, version, labels (JSON), fingerprint, layout, image_size. `like`: as in OnnxRequest.
/// Returns {file, bytes, task, version, classes, coefficients, image_size}. Throws as export_onnx().
nlohmann::json export_onnx_inputs(const ModelDirectory& directory, const std::string& task,
                                  const std::filesystem::path& file, const std::string& like, bool force);

}  // namespace recast
