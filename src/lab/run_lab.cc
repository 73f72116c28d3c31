#include "recast/lab/run_lab.h"

#include <ATen/Parallel.h>
#include <fcntl.h>
#include <fmt/ranges.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "data/worker_threads.h"
#include "lab_results.h"
#include "lab_stream.h"
#include "recast/base/error.h"
#include "recast/base/log.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"
#include "recast/run/machine.h"
#include "recast/run/provenance.h"
#include "run/agreement.h"
#include "run/report_markup.h"
#include "run_cell.h"
#include "shared_turns.h"

namespace recast {
namespace {
namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::int64_t kMostJobs = 256;

/// One lab at a time works in a folder. Gone when the process is.
class FolderLock {
 public:
  explicit FolderLock(const fs::path& folder)
      : descriptor_(::open((folder / ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644)) {
    if (descriptor_ < 0)
      fail(Code::kUnavailable, "[lab] {}: cannot be written to: {}", printable_path(folder), std::strerror(errno));
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) == 0) return;
    ::close(descriptor_);
    fail(Code::kUnavailable, "[lab] another recast lab works in {}: wait for it, or end it", printable_path(folder));
  }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;
  ~FolderLock() { ::close(descriptor_); }

 private:
  int descriptor_;
};

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) fail(Code::kUnavailable, "[lab] {}: cannot be made: {}", printable_path(folder), error.message());
}

// ---- what is missing -----------------------------------------------------------------------------------------------

/// The model that another one begins with: itself, unless it is made by mimicry.
const LabModel& origin_of(const LabFile& file, const LabModel& model) {
  return model.mimic_of.empty() ? model : origin_of(file, file.model(model.mimic_of));
}

/// What must be there for a model to begin with.
fs::path needed_by(const LabModel& model) {
  return model.import ? model.import->checkpoint : model.directory / "config.json";
}

/// Says all that is missing at once, with what it must look like.
void require_inputs(const LabFile& file, const std::vector<LabCell>& cells, Listener* listener) {
  std::set<std::string> tasks, models;
  for (const LabCell& cell : cells) {
    tasks.insert(cell.task);
    models.insert(origin_of(file, file.model(file.recipe(cell.recipe).model)).name);
  }
  std::vector<std::string> missing;
  const auto tell = [&](const std::string& what, const fs::path& path, const std::string& layout) {
    missing.push_back(what);
    if (listener)
      listener->warning(fmt::format("{}: no {}{}", what, printable_path(path),
                                    layout.empty() ? "" : "; expected there: " + printable(layout, 2000)));
  };
  std::error_code ignored;
  for (const std::string& name : models)
    if (const LabModel& model = file.model(name); !fs::exists(needed_by(model), ignored))
      tell("model " + name, needed_by(model), model.layout);
  for (const LabTask& task : file.tasks)
    if (tasks.count(task.name) > 0 && !fs::exists(task.images.data, ignored))
      tell("task " + task.name, task.images.data, task.layout);
  if (missing.empty()) return;
  fail(Code::kNotFound,
       "[lab] {} of {} inputs are not there ({}): put them where the file looks, or name their place "
       "(tasks.NAME.data=PATH), or run what there is (--cells TASK)",
       missing.size(), tasks.size() + models.size(), fmt::format("{}", fmt::join(missing, ", ")));
}

/// What a cell that is done took. Streams are measured between their steps, which nobody clocks.
double spent(const json& result) {
  return result.at("learn_seconds").get<double>() + result.value("eval_seconds", 0.0);
}

// ---- cells side by side --------------------------------------------------------------------------------------------

/// What the cells that work side by side have in common in telling of themselves.
struct Telling {
  Listener* next;
  std::mutex mutex;                ///< held while `next` is called
  std::set<std::string> warnings;  ///< given already: cells of one task have the same
};

/// Hands on what a cell reports, one thread at a time; steps only where they are of one cell.
class CellListener final : public Listener {
 public:
  CellListener(Telling& telling, bool alone) : telling_(telling), alone_(alone) {}
  void begin(const LabCell& cell) { cell_ = cell.id(); }

  void stage(const std::string& name, std::int64_t total) override {
    if (alone_) tell([&] { telling_.next->stage(cell_ + " " + name, total); });
  }
  void step(std::int64_t done, std::int64_t total) override {
    if (alone_) tell([&] { telling_.next->step(done, total); });
  }
  void epoch(const EpochMetrics& metrics) override {
    if (alone_) tell([&] { telling_.next->epoch(metrics); });
  }
  void warning(const std::string& text) override {
    tell([&] {
      if (telling_.warnings.insert(text).second) telling_.next->warning(cell_ + ": " + text);
    });
  }

 private:
  void tell(const std::function<void()>& call) {
    if (!telling_.next) return;
    const std::lock_guard lock(telling_.mutex);
    call();
  }
  Telling& telling_;
  const bool alone_;
  std::string cell_;
};

/// Guesses how long the rest takes, from the cells that are done, by recipe and scenario.
class Clock {
 public:
  explicit Clock(const LabFile& file) : file_(file) {}
  void add(const LabCell& cell, double seconds) { of_[kind(cell)].push_back(seconds); }
  double guess(const LabCell& cell) const {
    const auto own = of_.find(kind(cell));
    if (own != of_.end()) return mean(own->second);
    double sum = 0;
    for (const auto& [kind, seconds] : of_) sum += mean(seconds);
    return of_.empty() ? 0 : sum / static_cast<double>(of_.size());
  }

 private:
  using Kind = std::pair<std::string, bool>;  ///< recipe, and whether it learns a stream
  Kind kind(const LabCell& cell) const { return {cell.recipe, file_.task(cell.task).stream.has_value()}; }
  static double mean(const std::vector<double>& seconds) {
    double sum = 0;
    for (const double each : seconds) sum += each;
    return sum / static_cast<double>(seconds.size());
  }
  const LabFile& file_;
  std::map<Kind, std::vector<double>> of_;
};

class Work {
 public:
  /// turns: whose cell is next, among several ranks; null: all are this one's.
  Work(const CellSurroundings& around, std::vector<LabCell> cells, const LabRequest& request, const SharedTurns* turns)
      : around_(around),
        turns_(turns),
        inputs_(around),
        cells_(std::move(cells)),
        request_(request),
        telling_{request.listener, {}, {}},
        clock_(around.file) {}

  void run() {
    const auto jobs = std::min<std::int64_t>(request_.jobs, static_cast<std::int64_t>(cells_.size()));
    const int threads = std::max(1, at::get_num_threads() / static_cast<int>(jobs));
    std::vector<std::thread> workers;
    if (jobs == 1) return work(true);
    for (std::int64_t job = 0; job < jobs; ++job)
      workers.emplace_back([this, threads] {
        own_threads(threads);
        work(false);
      });
    for (std::thread& worker : workers) worker.join();
    if (error_) std::rethrow_exception(error_);
  }

 private:
  void work(bool alone) {
    CellListener listener(telling_, alone);
    try {
      while (const LabCell* cell = next()) {
        if (around_.stop && *around_.stop) fail(Code::kCancelled, "[lab] stopped");
        listener.begin(*cell);
        const Stopwatch watch;
        const CellOutcome outcome = run_cell(around_, inputs_, *cell, request_.force, &listener);
        tell(*cell, outcome, watch.ms() / 1000);
      }
    } catch (...) {
      if (alone) throw;
      const std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
      taken_ = cells_.size();  // nobody takes another
    }
  }

  const LabCell* next() {
    const std::lock_guard lock(mutex_);
    if (taken_ >= cells_.size()) return nullptr;
    const std::size_t turn = turns_ ? static_cast<std::size_t>(turns_->take()) : taken_;
    taken_ = turn + 1;
    return turn < cells_.size() ? &cells_[turn] : nullptr;
  }

  void tell(const LabCell& cell, const CellOutcome& outcome, double seconds) {
    const std::lock_guard lock(telling_.mutex);
    ++told_;
    const json& result = outcome.record.result;
    const bool done = outcome.record.state == CellRecord::State::kDone;
    if (done) clock_.add(cell, outcome.worked ? seconds : spent(result));
    if (!request_.listener) return;
    const std::string place = fmt::format("[{}/{}] {}", told_, cells_.size(), cell.id());
    if (!outcome.note.empty()) request_.listener->note(fmt::format("{}: {}", place, outcome.note));
    if (!outcome.worked) return;
    if (!done) {
      request_.listener->warning(
          fmt::format("{} failed: {}", place, outcome.record.error.at("message").get<std::string>()));
      return;
    }
    request_.listener->note(fmt::format(
        "{}: test top1 {:.4f}{}, {} numbers beside the head, {} stored{}, {}{}", place, result.at("top1").get<double>(),
        outcome.record.stream ? fmt::format(" at the end, {:.4f} on average over {} steps",
                                            result.at("average").get<double>(), result.at("curve").size())
                              : "",
        count_text(result.at("coefficients").get<double>()),
        size_text(result.at("stored_bytes").get<double>() + result.at("shared_bytes").get<double>()),
        outcome.record.stream ? "" : ", kept " + result.at("kept").get<std::string>(), seconds_text(seconds),
        left_text()));
  }

  std::string left_text() const {
    double left = 0;
    for (std::size_t i = told_; i < cells_.size(); ++i) left += clock_.guess(cells_[i]);
    return told_ == cells_.size()
               ? ""
               : fmt::format("; about {} left", seconds_text(left / static_cast<double>(request_.jobs)));
  }

  const CellSurroundings& around_;
  const SharedTurns* turns_;
  CellInputs inputs_;
  const std::vector<LabCell> cells_;
  const LabRequest& request_;
  std::mutex mutex_;  // guards taken_ and error_
  std::size_t taken_ = 0;
  std::exception_ptr error_;
  Telling telling_;  // its mutex guards all below
  std::size_t told_ = 0;
  Clock clock_;
};

// ---- the whole -----------------------------------------------------------------------------------------------------

json write_reports(const LabFile& file, const LabRequest& request, double seconds) {
  json document = lab_results(file, read_cells(file));
  document.update(provenance(request.command, seconds));
  make_folder(file.out);
  const auto write = [&](const char* name, const std::string& text) {
    if (!text.empty()) write_file_atomically(file.out / name, text);
  };
  write("results.json", document.dump(1, ' ', false, json::error_handler_t::replace) + "\n");
  write("results.csv", lab_csv(document));
  write("table.md", lab_markdown(document));
  write("accuracy-over-bytes.svg", plot_over_bytes(document));
  write("accuracy-over-seconds.svg", plot_over_seconds(document));
  write("average-over-bytes.svg", plot_streams_over_bytes(document));
  write("average-over-seconds.svg", plot_streams_over_seconds(document));
  write("report.html", lab_page(document));
  return document;
}

/// The models, by rank 0 before all others, which find them made.
std::map<std::string, PreparedModel> prepare(const LabFile& file, const std::vector<LabCell>& cells,
                                             const LabRequest& request, Ranks& ranks) {
  std::set<std::string> models;
  for (const LabCell& cell : cells) models.insert(file.recipe(cell.recipe).model);
  if (!ranks.first()) ranks.broadcast("");
  auto prepared = prepare_models(file, models, parse_device(file.device), request.stop, request.listener);
  if (ranks.first()) ranks.broadcast("prepared");
  return prepared;
}

void run_cells(const LabFile& file, const std::vector<LabCell>& cells, const LabRequest& request, Ranks& ranks) {
  std::optional<SharedTurns> turns;
  if (!ranks.alone()) turns.emplace(file.out, ranks);
  const auto prepared = prepare(file, cells, request, ranks);
  ImagePool pool(static_cast<std::size_t>(request.jobs) + 2);
  const CellSurroundings around{file, prepared, pool, request.command, request.stop};
  Work(around, cells, request, turns ? &*turns : nullptr).run();
  ranks.gather("");
}

std::size_t count_done(const json& document) { return document.at("counts").at("done").get<std::size_t>(); }

/// What all ranks are to have alike: a cell's number means the same to each.
json agreed_on(const LabFile& file, const std::vector<LabCell>& cells, const LabRequest& request) {
  json chosen = json::array();
  for (const LabCell& cell : cells) chosen.push_back(cell.id());
  return {{"recast", kRecastVersion},
          {"lab file", settings_yaml(file.tree)},
          {"--cells", chosen},
          {"--force", request.force}};
}

json lab_by(Ranks& ranks, const LabRequest& request) {
  const Stopwatch watch;
  if (request.jobs < 1 || request.jobs > kMostJobs)
    fail(Code::kInvalidArgument, "[lab] --jobs must lie in 1..{}, got {}", kMostJobs, request.jobs);
  const LabFile file = read_lab_file(request.file, request.overrides, request.out);
  const std::vector<LabCell> cells = choose_cells(file, request.cells);
  require_inputs(file, cells, request.listener);
  require_agreement(agreed_on(file, cells, request), ranks);
  if (!ranks.first()) {
    run_cells(file, cells, request, ranks);
    return {{"counts", json::parse(ranks.broadcast(""))}};
  }
  make_folder(file.out);
  const FolderLock lock(file.out);
  write_file_atomically(file.out / "lab.yaml", settings_yaml(file.tree));
  try {
    run_cells(file, cells, request, ranks);
  } catch (const Error& error) {
    const bool lost = dynamic_cast<const RanksParted*>(&error) != nullptr;
    if (error.code() != Code::kCancelled && !lost) throw;
    const json document = write_reports(file, request, watch.ms() / 1000);
    fail(error.code(), "{} with {} of {} cells done: the same command goes on from here",
         lost ? error.what() : "[lab] stopped", count_done(document), file.cells.size());
  }
  json document = write_reports(file, request, watch.ms() / 1000);
  ranks.broadcast(document.at("counts").dump());
  return document;
}

}  // namespace

json run_lab(const LabRequest& request) {
  return among_ranks(request.ranks, [&](Ranks& ranks) { return lab_by(ranks, request); });
}

json report_lab(const LabRequest& request) {
  const Stopwatch watch;
  const LabFile file = read_lab_file(request.file, request.overrides, request.out);
  return write_reports(file, request, watch.ms() / 1000);
}

json list_lab(const LabRequest& request) {
  const LabFile file = read_lab_file(request.file, request.overrides, request.out);
  json cells = json::array();
  for (const LabCell& cell : choose_cells(file, request.cells)) {
    const CellRecord record = read_cell(file, cell);
    const bool done = record.state == CellRecord::State::kDone;
    json line = {{"task", cell.task},
                 {"recipe", cell.recipe},
                 {"seed", cell.seed},
                 {"state", shown_state(file, record)},
                 {"scenario", scenario_name(file.task(cell.task))},
                 {"top1", done ? record.result.at("top1") : json()},
                 {"average", done && record.stream ? record.result.at("average") : json()},
                 {"seconds", done ? json(spent(record.result)) : json()},
                 {"error", record.state == CellRecord::State::kFailed ? record.error.at("message") : json()}};
    if (!record.fault.empty()) line["error"] = record.fault;
    cells.push_back(std::move(line));
  }
  return {{"out", printable_path(file.out)}, {"cells", cells}};
}

std::string lab_settings_yaml(const LabRequest& request) {
  return settings_yaml(read_lab_file(request.file, request.overrides, request.out).tree);
}

}  // namespace recast
