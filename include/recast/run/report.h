#pragma once
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "recast/run/model_directory.h"
#include "recast/train/learn.h"

namespace recast {

struct ReportOptions {
  std::int64_t examples = 12;  ///< test images shown of each task, 0 to 100
  bool measure = false;        ///< evaluate every task again: has it kept what it could when it was learned?
  const std::atomic<bool>* stop = nullptr;
  Listener* listener = nullptr;
};

/// What a model directory holds and how well it works, as one HTML page that needs nothing else: no script, no request,
/// figures as inline SVG, images as PNG data. All texts from outside (labels, paths, commands) are escaped.
/// Figures come from the store's records; a figure that a record lacks is left out. Example images and the comparison
/// of weights and features with the bare backbone are made here, from the task's data where it is still in its place;
/// where it is not, or a task cannot be loaded, the page says so. Throws  kInvalidArgument (examples out of range),
/// kCancelled, what the store throws.
std::string report_html(const ModelDirectory& directory, const ReportOptions& options = {});

/// report_html() into a file, whole or not at all. Returns {file, bytes, tasks: [names], notes: [what was left out]}.
/// Throws  as report_html(); kAlreadyExists without `force`, before anything is measured; as AtomicFile.
nlohmann::json write_report(const ModelDirectory& directory, const std::filesystem::path& file, bool force,
                            const ReportOptions& options = {});

}  // namespace recast
