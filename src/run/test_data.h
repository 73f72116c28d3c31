#pragma once
#include <atomic>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "recast/run/image_pool.h"
#include "recast/run/image_source.h"
#include "recast/run/model_directory.h"

namespace recast {

/// The test images that a task is measured on.
struct TestData {
  std::shared_ptr<const Dataset> dataset;
  std::shared_ptr<const ImageSource> images;  ///< with the task's labels, at the size it was learned with
  std::vector<std::string> notes;             ///< what is to be said about them
  nlohmann::json bad_images;                  ///< {count, first: [{image, reason}]}: what was left out
};

/// Opens `chosen` or, if empty, the data that the task was learned from. Splits are made again with the task's split
/// seed and limits. Throws as evaluate_tasks().
/// kSkip: every image is decoded here, and what cannot be is left out and told in a note.
TestData open_test_data(const ModelDirectory& directory, const LoadedTask& task, const std::filesystem::path& chosen,
                        BadImages bad_images, const std::atomic<bool>* stop, ImagePool* pool = nullptr);

/// The test split of a dataset that is open, for one more task.
TestData use_test_data(const ModelDirectory& directory, const LoadedTask& task, std::shared_ptr<const Dataset> dataset,
                       BadImages bad_images, const std::atomic<bool>* stop, ImagePool* pool = nullptr);

/// The digest of the test split that a task's record names, or empty.
std::string test_digest(const nlohmann::json& data);

}  // namespace recast
