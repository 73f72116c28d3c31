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
  std::string command;           ///< of the program: "learn", "stream"
  std::filesystem::path folder;  ///< the run folder
  std::string id;                ///< of the run, the same in every sitting
  std::string task;
  Settings settings;  ///< as in config.yaml
  nlohmann::json versions;
};

/// A figure as these tools know it: its name "STAGE/COLUMN" in columns of metrics.csv, "validation/top1", "test/loss".
struct Figure {
  std::string name;
  double value;
};

/// Figures that belong together: of an epoch, of a step of a stream, of what is kept in the end.
struct Point {
  std::int64_t at = 0;  ///< epoch or step
  std::vector<Figure> figures;
};

/// What a journal is told of a run that is complete.
struct RunEnd {
  Point figures;
  std::int64_t version = 0;  ///< stored last; 0: none was
  std::string fingerprint;
};

/// A further place for a run's figures, in a form that other tools read; told of the same events as metrics.csv, in
/// order, from one thread: begin(), then resumed() if the run goes on from an earlier sitting, each add(), and finish()
/// or stopped(). Of a run in several sittings it holds every point once: what earlier ones left beyond the history is
/// cut. Throws kUnavailable: what it writes to is out of reach or full.
class Journal {
 public:
  virtual ~Journal() = default;
  virtual void begin(const RunFacts& facts) = 0;
  virtual void resumed(const std::vector<Point>& history) = 0;
  virtual void add(const Point& point) = 0;
  /// The run folder has its results.json.
  virtual void finish(const RunEnd& end) = 0;
  /// The run ends here; it may go on later where that is said.
  virtual void stopped(bool resumable) {}
};

std::vector<Figure> epoch_figures(const EpochMetrics& metrics);
/// Those of the numbers kept: top1, top5 and loss of validation and test, coefficients, stored bytes, seconds.
std::vector<Figure> final_figures(const nlohmann::json& results);
/// Of results.json of a run of learn.
RunEnd end_of(const nlohmann::json& results);
/// A step of a stream (an entry of `steps` in results.json) and the figures of the whole stream.
Point stream_point(const nlohmann::json& step);
RunEnd stream_end(const nlohmann::json& results);
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
