#pragma once
#include <nlohmann/json.hpp>
#include <string>

#include "recast/run/class_stream.h"
#include "recast/run/learn_task.h"

namespace recast {

/// What `recast stream` is asked for: what `recast learn` is, and the stream. `seeds` and `test` are not used.
struct StreamRequest : LearnRequest {
  StreamOptions stream;
  std::string unlabelled = "base";  ///< rows without labels for plug-ins that prepare themselves: base (those of the
                                    ///< first step) | all (images of classes to come as well, which a figure must say)
  std::string keep = "all";         ///< versions in the task store: all (one a step) | last | none
  bool forward_transfer = true;     ///< learn each step's classes alone as well
};

/// results.json names the schema that it follows; docs/streams.md has its keys.
inline constexpr std::string_view kStreamSchema = "recast-stream-1";

struct StreamReport {
  nlohmann::json results;
  bool finished_before = false;  ///< `resume` found a stream that was complete; nothing was done
};

/// Learns the classes of a dataset step by step with one head and no task id, and measures after each step on the test
/// images of all classes seen. Test images are only measured on; nothing is chosen by them. With a recipe that leaves
/// the features alone, each image passes the backbone once, ever (feature_cache()); otherwise images are decoded once.
/// After each step (keep=all) the state is the next version of the task, which follows the shared state of the head,
/// and a stopped stream goes on from the last step that was stored, to the same bits. Writes the run folder (default
/// DIRECTORY/runs/TASK/vVERSION-stream): config.yaml, run.log, metrics.csv (a line a step), accuracy_matrix.csv and
/// .svg, results.json. Throws  as learn_task() and make_stream(); kUnsupported: classes come back, and the head learns
/// each once.
StreamReport stream_task(const StreamRequest& request);

/// The settings that stream_task() would use, as YAML that `--config` reads. Reads the model directory, not the data.
std::string stream_settings_yaml(const StreamRequest& request);

}  // namespace recast
