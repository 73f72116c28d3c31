#pragma once
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "journal.h"
#include "recast/run/settings.h"
#include "recast/train/learn.h"

namespace recast {

struct LearnRequest;

/// The folder that one learning run leaves behind: config.yaml, run.log, metrics.csv, checkpoints/last.safetensors and,
/// once it is complete, results.json. Passes events on to another listener. From one thread.
class RunFolder final : public Listener {
 public:
  /// Touches nothing yet.
  RunFolder(std::filesystem::path path, Listener* next) : path_(std::move(path)), next_(next) {}
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;
  /// Keeps every other process and RunFolder out of the folder, which must be there, for as long as this object lives.
  /// A file system that cannot lock folders lets all in. Throws kUnavailable: another one is in it.
  void claim();
  /// Creates what is missing, claims the folder and opens the log. fresh: nothing may lie in it. A folder that cannot
  /// be filled, as on a full disk, is discarded. Throws kUnavailable; kAlreadyExists: another process was faster.
  void create(const Settings& settings, bool fresh = false);
  /// Removes the folder, and the empty ones above it that create() made, unless a checkpoint is in it.
  void discard() noexcept;
  /// From here on the journals that the request asks for are told of this run of the command, too. Throws kUnavailable:
  /// one cannot be begun. One that fails later is told no more, with a warning: its figures stand in metrics.csv as
  /// well.
  void open_journals(const LearnRequest& request, const std::string& command, const Settings& settings);
  /// Beside epochs, of which it hears as a listener.
  void tell_journals(const Point& point);
  void resume_journals(const std::vector<Point>& history);
  void finish_journals(const RunEnd& end);
  void stop_journals(bool resumable);

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path checkpoint() const { return path_ / "checkpoints" / "last.safetensors"; }
  bool has_checkpoint() const;
  /// Whether the folder, which must be there, is ours, be it hardly begun.
  bool is_run() const;
  /// A random number that this run keeps across resumes; empty before create(). A version stored by the run names it.
  std::string id() const;
  std::filesystem::path results() const { return path_ / "results.json"; }
  std::filesystem::path id_file() const { return path_ / "id"; }
  std::filesystem::path config() const { return path_ / "config.yaml"; }
  bool exists() const { return std::filesystem::exists(path_); }
  /// Throws kInvalidArgument naming the first setting in which the run that is here differs.
  void require_same(const Settings& settings) const;
  /// Empties an existing run folder. Throws kAlreadyExists where the folder is not one; as claim().
  void clear();

  void write_metrics(const std::vector<EpochMetrics>& history) const;
  void write_results(const nlohmann::json& results) const;

  void stage(const std::string& name, std::int64_t total_steps) override;
  void step(std::int64_t done, std::int64_t total) override;
  void epoch(const EpochMetrics& metrics) override;
  void note(const std::string& text) override;
  void warning(const std::string& text) override;
  void resumed(const std::vector<EpochMetrics>& history) override;

 private:
  void make_folder(const std::filesystem::path& folder) const;
  void fill(const Settings& settings);
  void remove_leftovers() const;
  void log(const std::string& line);
  void tell_each(const std::function<void(Journal&)>& tell);
  std::filesystem::path path_;
  Listener* next_;
  int claim_ = -1;  ///< descriptor of the folder, locked
  std::ofstream log_;
  std::vector<std::filesystem::path> made_;  ///< folders that create() made, outermost first
  std::vector<EpochMetrics> seen_;
  std::vector<std::unique_ptr<Journal>> journals_;
};

}  // namespace recast
