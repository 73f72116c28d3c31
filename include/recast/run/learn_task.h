#pragma once
#include <atomic>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "recast/comm/ranks.h"
#include "recast/run/image_pool.h"
#include "recast/run/image_source.h"
#include "recast/train/learn.h"

namespace recast {

class ModelDirectory;

/// What `recast learn` is asked for; members are named after its flags. Empty optionals: the recipe's own.
struct LearnRequest {
  std::filesystem::path directory, data;
  std::string store;  ///< URL of the task store; empty: that of the directory
  std::string task, recipe = "fast";
  std::vector<std::string> plugs;  ///< "NAME[:key=value,...]"
  std::optional<std::int64_t> image_size, epochs, batch_size;
  std::optional<double> lr;       ///< goes before what plug-ins suggest
  std::optional<double> head_lr;  ///< where absent and the recipe has one rate for all: follows `lr`
  std::optional<double> weight_decay;
  std::optional<std::string> augmentation;  ///< none | flips | paper
  std::string bn = "frozen";                ///< frozen | task: batch-norm statistics of the task's own
  std::optional<bool> bf16;                 ///< matrix products while learning; figures of test are fp32
  std::uint64_t seed = 42, split_seed = 42;
  std::vector<std::uint64_t> seeds;              ///< of learn_with_seeds(); empty: `seed` alone
  std::vector<std::string> classes, superclasses;  ///< of the data; both empty: all
  /// Images per class, 0: all; of validation the share that is kept of training.
  std::int64_t limit_train = 0, limit_validation = 0, limit_test = 0;
  BadImages bad_images = BadImages::kStop;       ///< what is done about images that cannot be decoded
  std::string shared;                            ///< name of the shared state; empty: made of those plug-ins' names
  std::string device = "cpu";
  std::filesystem::path run_folder;  ///< empty: DIRECTORY/runs/TASK/vVERSION: no run is overwritten
  bool resume = false, force = false, test = true;
  bool tensorboard = false;           ///< an event file in the run folder
  std::optional<std::string> mlflow;  ///< a run in MLflow's file store: MLFLOW_TRACKING_URI, "" for mlruns here
  std::string mlflow_experiment;      ///< by name; empty: the task's
  std::string command;                ///< as typed, for the record
  ImagePool* pool = nullptr;               ///< what several runs of this process share of their images; null: nothing
  const ModelDirectory* opened = nullptr;  ///< `directory` on `device`, its files read already; null: they are read
  const std::atomic<bool>* stop = nullptr;
  Listener* listener = nullptr;
  Ranks* ranks = nullptr;  ///< processes that share the work, all with the same request; null: nobody
};

/// results.json names the schema that it follows; docs/results.schema.json is that schema.
inline constexpr std::string_view kResultsSchema = "recast-results-1";

struct LearnReport {
  /// {task, version, recipe, plugs, classes, labels, images: {train, validation, test}, kept, candidates: {stage:
  /// top1},
  ///  best_epoch, validation: {rows, top1, top5, loss, per_class}, test: the same or null, confusion: [[truth][answer]]
  ///  of test or null, coefficients, head_numbers, numbers, stored_bytes, shared_bytes, file_bytes, history: [lines of
  ///  metrics.csv, with seconds], seconds: of learning, machine, versions, command, finished_utc, seed, split_seed,
  ///  image_size, fingerprint, run, schema, bad_images: {train, validation, test: {count, first: [{image, reason}]}},
  ///  duplicates: of images between splits, see describe(Duplicates)}.
  nlohmann::json results;
  bool finished_before = false;  ///< `resume` found a run that was complete; nothing was done
};

/// Learns a task from images and stores it as its next version. Checks everything that can be known before it writes:
/// options, plug-ins, data, every image to learn from. The test images are decoded once, after all is decided, in fp32;
/// if one of them is bad the run stays resumable and nothing is stored. Before that only their bytes are hashed, to
/// warn of images that lie in two splits.
/// Writes the run folder (config.yaml, which reruns it; metrics.csv; run.log; checkpoints/last.safetensors;
/// results.json) and, in one transaction, the task and the shared state it follows. Of several ranks only rank 0
/// writes; each reads the model and the images, which must be the same everywhere, and all return the same results or
/// throw.
/// Throws  kInvalidArgument, kNotFound, kUnsupported, kShapeMismatch, kDataCorruption (see the parts), kAlreadyExists
///         (an unfinished run is in the way), kCancelled (stopped; resumable).
LearnReport learn_task(const LearnRequest& request);

/// The settings that learn_task() would use, as YAML that `--config` reads. Reads the model directory, not the data.
std::string learn_settings_yaml(const LearnRequest& request);

}  // namespace recast
