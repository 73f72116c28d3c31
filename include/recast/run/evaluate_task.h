#pragma once
#include <atomic>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "recast/run/image_pool.h"
#include "recast/run/image_source.h"
#include "recast/run/model_directory.h"
#include "recast/train/learn.h"

namespace recast {

struct EvaluateRequest {
  std::string task;            ///< "NAME" or "NAME:VERSION"; empty: every task
  std::filesystem::path data;  ///< empty: the data that the task was learned from
  bool bf16 = false;
  BadImages bad_images = BadImages::kStop;
  std::string command;        ///< as typed, for the record
  ImagePool* pool = nullptr;  ///< what several runs of this process share of their images; null: nothing
  const std::atomic<bool>* stop = nullptr;
  Listener* listener = nullptr;
};

/// Measures a task on the test split of its data, or of other data with the same labels (in any order).
/// Splits are made again with the task's split seed and limits; a note says so where the images are not those that the
/// task was learned with, since some of the new test images may then have been training images.
/// With a task: {task, version, data, split: "test", rows, top1, top1_interval95, top5, loss, per_class: {label:
/// accuracy or null},
///  confusion: [[truth][answer]] in the order of `labels`, labels, bad_images: {count, first}, notes: []}.
/// Without: {tasks: [the same each], skipped: [{task, reason}]}. Both with what provenance() says.
/// Throws  kNotFound (task, data), kShapeMismatch (labels differ, some named), as open_dataset(), kCancelled.
nlohmann::json evaluate_tasks(const ModelDirectory& directory, const EvaluateRequest& request);

}  // namespace recast
