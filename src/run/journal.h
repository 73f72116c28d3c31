#pragma once
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "recast/run/settings.h"
#include "recast/train/learn.h"

namespace recast {

/// What a journal is told of a run before anything happens.
struct RunFacts {
  std::filesystem::path folder;  ///< the run folder
  std::string id;                ///< of the run, the same in every sitting
  std::string task;
  Settings settings;  ///< as in config.yaml
  nlohmann::json versions;
};

/// A further place for a run's figures, in a form that other tools read; told of the same events as metrics.csv, in
/// order, from one thread: begin(), then resumed() if the run goes on from a checkpoint, each epoch(), and finish() or
/// stopped(). Of a run in several sittings it holds every epoch once: what earlier ones left beyond the history is cut.
/// Throws kUnavailable: what it writes to is out of reach or full.
class Journal {
 public:
  virtual ~Journal() = default;
  virtual void begin(const RunFacts& facts) = 0;
  virtual void resumed(const std::vector<EpochMetrics>& history) = 0;
  virtual void epoch(const EpochMetrics& metrics) = 0;
  /// `results`: as in results.json.
  virtual void finish(const nlohmann::json& results) = 0;
  /// The run ends here; with a checkpoint it may go on later.
  virtual void stopped(bool resumable) {}
};

/// A figure as these tools know it: its name "STAGE/COLUMN" in columns of metrics.csv, "validation/top1", "test/loss".
struct Figure {
  std::string name;
  double value;
};
std::vector<Figure> epoch_figures(const EpochMetrics& metrics);
/// Those of the numbers kept: top1, top5 and loss of validation and test, coefficients, stored bytes, seconds.
std::vector<Figure> final_figures(const nlohmann::json& results);
/// The epochs that results.json keeps.
std::vector<EpochMetrics> history_of(const nlohmann::json& results);

/// A TensorBoard event file in the run folder, docs/logging.md.
std::unique_ptr<Journal> tensorboard_journal();

/// Where MLflow's file store is, "" for mlruns in the working folder: a path, or a URI file:...
/// Throws kUnsupported for other schemes: servers and databases.
std::filesystem::path mlflow_folder(const std::string& tracking_uri);
/// A run in that store; `experiment`: by name, empty: the task's. docs/logging.md.
std::unique_ptr<Journal> mlflow_journal(const std::filesystem::path& store, const std::string& experiment);

}  // namespace recast
