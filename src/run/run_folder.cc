#include "run_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <random>
#include <utility>

#include "recast/base/error.h"
#include "recast/base/utc.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"
#include "recast/run/learn_task.h"
#include "recast/run/machine.h"

namespace recast {
namespace {
namespace fs = std::filesystem;

std::string csv(const std::vector<EpochMetrics>& history) {
  // No times: a resumed run leaves the very bytes that an uninterrupted one does.
  std::string text = "epoch,stage,train_loss,eval_loss,eval_top1,lr,skipped_steps\n";
  for (const EpochMetrics& e : history)
    text += fmt::format("{},{},{},{},{},{},{}\n", e.epoch, e.stage, e.train_loss, e.validation_loss, e.validation_top1,
                        e.rate, e.skipped_steps);
  return text;
}

std::string joined(const std::vector<std::string>& values) { return fmt::format("{}", fmt::join(values, " ")); }

}  // namespace

RunFolder::~RunFolder() {
  if (claim_ >= 0) ::close(claim_);
}

void RunFolder::claim() {
  if (claim_ >= 0) ::close(std::exchange(claim_, -1));  // of a folder that clear() has removed, maybe
  claim_ = ::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (claim_ < 0 || ::flock(claim_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return;
  fail(Code::kUnavailable, "[learn] another process learns in {}: wait for it or end it, or choose another --out",
       printable_path(path_));
}

void RunFolder::create(const Settings& settings, bool fresh) {
  std::error_code error;
  for (fs::path missing = path_; !missing.empty() && !fs::exists(missing, error); missing = missing.parent_path())
    made_.insert(made_.begin(), missing);
  make_folder(path_);
  claim();
  if (fresh && !fs::is_empty(path_))
    fail(Code::kAlreadyExists, "[learn] {} exists: another process has just learned there; try again", path_.string());
  try {
    fill(settings);
  } catch (...) {
    discard();
    throw;
  }
}

void RunFolder::make_folder(const fs::path& folder) const {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) fail(Code::kUnavailable, "[learn] {}: cannot create the run folder: {}", path_.string(), error.message());
}

void RunFolder::fill(const Settings& settings) {
  make_folder(path_ / "checkpoints");
  remove_leftovers();
  if (!fs::exists(id_file())) {
    std::random_device random;
    write_file_atomically(id_file(), fmt::format("{:08x}{:08x}\n", random(), random()));
  }
  write_file_atomically(config(), settings_yaml(settings));
  log_.open(path_ / "run.log", std::ios::app);
}

bool RunFolder::has_checkpoint() const {
  std::error_code ignored;
  return fs::exists(checkpoint(), ignored) || fs::exists(previous_checkpoint(checkpoint()), ignored);
}

bool RunFolder::is_run() const {
  if (has_checkpoint() || fs::exists(config()) || fs::exists(id_file())) return true;
  // A run that was killed while it made its folder.
  return std::all_of(fs::directory_iterator(path_), {}, [](const fs::directory_entry& entry) {
    const std::string name = entry.path().filename().string();
    return name == "checkpoints" || is_temporary_name(name);
  });
}

std::string RunFolder::id() const {
  if (!fs::exists(id_file())) return "";
  std::string text = read_file(id_file(), 64);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

/// What a writer that was killed left half-done: nobody will ever rename it.
void RunFolder::remove_leftovers() const {
  for (const fs::path& folder : {path_, path_ / "checkpoints"})
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
      if (is_temporary_name(entry.path().filename().string())) fs::remove(entry.path());
    }
}

void RunFolder::discard() noexcept {
  std::error_code ignored;
  log_.close();
  if (made_.empty() || has_checkpoint()) return;
  fs::remove_all(path_, ignored);
  for (auto folder = made_.rbegin(); folder != made_.rend(); ++folder) fs::remove(*folder, ignored);  // empty ones only
}

void RunFolder::require_same(const Settings& settings) const {
  const Settings here = read_settings(config());
  std::map<std::string, std::string> ours, theirs;
  for (const auto& [key, values] : settings) ours[key] = joined(values);
  for (const auto& [key, values] : here) theirs[key] = joined(values);
  for (const auto* side : {&ours, &theirs})
    for (const auto& [key, value] : *side)
      if (ours[key] != theirs[key])
        fail(Code::kInvalidArgument,
             "[learn] the run in {} was started with {} '{}', now it is '{}': resume it with "
             "--config {} --out {} --resume, or start afresh with --force",
             path_.string(), key, printable(theirs[key]), printable(ours[key]), config().string(), path_.string());
}

void RunFolder::clear() {
  if (!fs::is_directory(path_) || (!fs::is_empty(path_) && !is_run()))
    fail(Code::kAlreadyExists, "[learn] {} is no run folder, so --force does not replace it", path_.string());
  claim();
  fs::remove_all(path_);
}

void RunFolder::open_journals(const LearnRequest& request, const std::string& command, const Settings& settings) {
  std::vector<std::unique_ptr<Journal>> asked;
  if (request.tensorboard) asked.push_back(tensorboard_journal());
  if (request.mlflow) asked.push_back(mlflow_journal(mlflow_folder(*request.mlflow), request.mlflow_experiment));
  for (std::unique_ptr<Journal>& journal : asked) {
    journal->begin({command, path_, id(), request.task, settings, versions()});
    journals_.push_back(std::move(journal));
  }
}

void RunFolder::tell_journals(const Point& point) {
  tell_each([&](Journal& journal) { journal.add(point); });
}

void RunFolder::resume_journals(const std::vector<Point>& history) {
  tell_each([&](Journal& journal) { journal.resumed(history); });
}

void RunFolder::finish_journals(const RunEnd& end) {
  tell_each([&](Journal& journal) { journal.finish(end); });
}

void RunFolder::stop_journals(bool resumable) {
  tell_each([&](Journal& journal) { journal.stopped(resumable); });
}

void RunFolder::tell_each(const std::function<void(Journal&)>& tell) {
  std::vector<std::unique_ptr<Journal>> sound;
  for (std::unique_ptr<Journal>& journal : std::exchange(journals_, {})) {
    try {
      tell(*journal);
      sound.push_back(std::move(journal));
    } catch (const std::exception& error) {
      warning(fmt::format("{}; it is told no more of this run", error.what()));
    }
  }
  journals_ = std::move(sound);
}

void RunFolder::write_metrics(const std::vector<EpochMetrics>& history) const {
  write_file_atomically(path_ / "metrics.csv", csv(history));
}

void RunFolder::write_results(const nlohmann::json& results) const {
  write_file_atomically(this->results(), results.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

void RunFolder::log(const std::string& line) { log_ << utc_now() << ' ' << line << '\n' << std::flush; }

void RunFolder::stage(const std::string& name, std::int64_t total_steps) {
  log(fmt::format("stage {} of {} steps", name, total_steps));
  if (next_) next_->stage(name, total_steps);
}

void RunFolder::step(std::int64_t done, std::int64_t total) {
  if (next_) next_->step(done, total);
}

void RunFolder::epoch(const EpochMetrics& m) {
  log(fmt::format(
      "{} epoch {}: train loss {:.4f}, validation loss {:.4f}, top1 {:.4f}, lr {:.3g}, {:.1f} s, {} skipped", m.stage,
      m.epoch, m.train_loss, m.validation_loss, m.validation_top1, m.rate, m.seconds, m.skipped_steps));
  seen_.push_back(m);
  write_metrics(seen_);
  tell_journals(Point{m.epoch, epoch_figures(m)});
  if (next_) next_->epoch(m);
}

void RunFolder::resumed(const std::vector<EpochMetrics>& history) {
  seen_ = history;
  write_metrics(seen_);
  std::vector<Point> points;
  for (const EpochMetrics& m : history) points.push_back({m.epoch, epoch_figures(m)});
  resume_journals(points);
}

void RunFolder::warning(const std::string& text) {
  log("WARNING: " + text);
  if (next_) next_->warning(text);
}

void RunFolder::note(const std::string& text) {
  log(text);
  if (next_) next_->note(text);
}

}  // namespace recast
