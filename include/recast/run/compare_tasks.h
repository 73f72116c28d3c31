#pragma once
#include <atomic>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "recast/run/image_source.h"
#include "recast/run/model_directory.h"
#include "recast/train/learn.h"

namespace recast {

struct CompareRequest {
  std::vector<std::string> a, b;  ///< "NAME[:VERSION]", as many on both sides; a[i] and b[i] are a pair (same seed)
  std::filesystem::path data;     ///< empty: the data that all of them were learned from
  bool bf16 = false;
  BadImages bad_images = BadImages::kStop;
  std::string command;  ///< as typed, for the record
  const std::atomic<bool>* stop = nullptr;
  Listener* listener = nullptr;
};

/// Measures tasks on the same test images and tests whether b differs from a. Two sources of chance are kept apart:
/// - images: would other test images tell another story? Per image, b's share of right answers less a's. One pair:
///   McNemar's exact test on the images that only one has right; several: paired t test over images.
/// - seeds: would other seeds? Paired t test over the pairs; null for one pair, which cannot tell.
/// Returns {data, rows, notes, pairs: [{a: {task, version, top1}, b: the same, only_a, only_b, difference}],
///  over_images: {test: "McNemar, exact" | "paired t", difference, interval95, p},
///  over_seeds: {test, values, mean, deviation, interval95, p} or null} and what provenance() says; differences are b -
///  a.
/// Throws kInvalidArgument: nothing or unequal numbers to compare, or their test images differ and no data was named;
/// as evaluate_tasks().
nlohmann::json compare_tasks(const ModelDirectory& directory, const CompareRequest& request);

}  // namespace recast
