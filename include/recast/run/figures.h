#pragma once
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "recast/format/tensor_file.h"
#include "recast/train/learn.h"

namespace recast {

/// {rows, top1, top1_interval95: [low, high] (Wilson's, of the rows), top5, loss,
///  per_class: {label: accuracy, or null where no row has it}, confusion: [[truth][answer]]}.
nlohmann::json figures(const Evaluation& evaluation, const std::vector<std::string>& labels);
/// One of EpochMetrics: {epoch, stage, train_loss, eval_loss, eval_top1, lr, seconds, skipped_steps}.
nlohmann::json figures(const EpochMetrics& epoch);

/// A value that may be missing.
nlohmann::json or_null(const std::optional<double>& value);

/// What a task's numbers amount to: {coefficients: learned beside the head, head_numbers, stored_bytes, shared_bytes:
/// of the state that it shares with other tasks, numbers: {plug-in: {learned, bytes: stored, shared ones included}}}.
nlohmann::json count_numbers(const Model& model);
/// A line: each plug-in with its numbers and their bytes, of the entry `numbers` above.
std::string numbers_text(const nlohmann::json& numbers);

/// Bytes of the tensors' elements.
std::int64_t count_bytes(const NamedTensors& tensors);

}  // namespace recast
