#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "recast/serve/inference.h"
#include "served_task.h"

namespace recast {

/// The task that a model's name or a row's stands for now. Throws kNotFound naming the nearest.
using FindTask = std::function<std::shared_ptr<const ServedTask>(const std::string& name, const std::string& version)>;

/// What a request asks for, checked: rows, each with its task and its image, and outputs.
struct RequestRows {
  InferenceRequest request;                              ///< keeps the bytes that `images` and `pixels` look at
  std::vector<std::shared_ptr<const ServedTask>> tasks;  ///< [N]
  std::vector<std::string_view> images;                  ///< [N] encoded; empty: pixels are given
  const char* pixels = nullptr;                          ///< fp32 [N, 3, height, width], normalised; any alignment
  std::int64_t height = 0, width = 0;                    ///< of pixels
  std::vector<std::string> outputs;                      ///< names, in the order asked for
  std::vector<std::int64_t> classification;              ///< per output: 0, or as text the best so many
  std::int64_t top = 0;                                  ///< parameter "top_k"
  std::int64_t timeout_us = 0;                           ///< parameter "timeout"; 0: none
  std::int64_t bytes = 0;                                ///< of its inputs

  bool mixed = false;  ///< rows name their tasks themselves

  std::int64_t rows() const { return static_cast<std::int64_t>(tasks.size()); }
  /// Of the model, as answers and statistics have it: empty where rows have versions of their own.
  std::string version() const { return mixed ? "" : std::to_string(tasks.front()->version); }
};

/// Throws kInvalidArgument with the field (and the row), kNotFound for a task with its row, kExhausted beyond
/// `max_rows`.
RequestRows read_rows(InferenceRequest request, const FindTask& find, std::int64_t max_rows);

/// What the model gave for a row.
struct RowResult {
  at::Tensor logits;    ///< [C] fp32
  at::Tensor features;  ///< [D] fp32
};
/// Rows of smaller heads are padded: logits with the least float, which JSON can carry, probabilities with 0.
InferenceResponse write_rows(const RequestRows& rows, const std::vector<RowResult>& results);

/// Inputs and outputs of a model as its metadata lists them. classes and features: -1 where they differ.
struct ModelShape {
  bool mixed = false;
  std::int64_t classes = -1, features = -1;
};
nlohmann::json describe_inputs(const ModelShape& shape);
nlohmann::json describe_outputs(const ModelShape& shape);

}  // namespace recast
