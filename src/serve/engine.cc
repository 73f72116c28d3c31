#include "recast/serve/engine.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <thread>

#include "batch_runner.h"
#include "data/worker_threads.h"
#include "engine_metrics.h"
#include "engine_statistics.h"
#include "recast/format/printable.h"
#include "recast/run/machine.h"
#include "recast/serve/model_name.h"
#include "recast/store/task_header.h"
#include "task_listing.h"

namespace recast {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::size_t kModelsWithStatistics = 10'000;
/// Names that are looked at for a suggestion: the first of all, and the first that begin like the one asked for. A list
/// of 100,000 would take seconds, and anybody may ask.
constexpr std::int64_t kNearestAmong = 200;
/// How often stores are asked whether they are there, since those who would find out may have been sent elsewhere.
constexpr std::chrono::seconds kLookAtStores{1};

class Engine final : public Service {
 public:
  Engine(const EngineOptions& options, prometheus::Registry* metrics);
  ~Engine() override;

  bool live() const override { return true; }
  bool ready() const override { return !draining_ && std::ranges::all_of(bases_, &ServedBase::has_store); }
  nlohmann::json server_metadata() const override;
  bool model_ready(const std::string& model, const std::string& version) const override;
  nlohmann::json model_metadata(const std::string& model, const std::string& version) const override;
  nlohmann::json repository_index(bool ready_only) const override;
  nlohmann::json tasks(const TaskQuery& query) const override { return list_served_tasks(bases_, query); }
  nlohmann::json task(const std::string& model, bool history) const override;
  void load(const std::string& model) override;
  void unload(const std::string& model) override;
  nlohmann::json statistics(const std::string& model, const std::string& version) const override;
  void infer(InferenceRequest request, CallContext context, std::function<void(InferenceResult)> done) override;
  bool drain(Clock::time_point deadline) override;

 private:
  using MayUse = std::function<bool(std::string_view model)>;

  /// A request that is open until this goes, whatever its transport throws.
  struct Closing {
    Engine& engine;
    ~Closing() {
      const std::lock_guard lock(engine.open_mutex_);
      if (--engine.open_ == 0) engine.answered_.notify_all();
    }
  };

  /// The bases that a name may mean: the one it names, or all.
  std::vector<ServedBase*> bases_of(const ModelName& name) const;
  struct Place {
    ServedBase* base;
    Resolved task;
  };
  /// The only base that has the task. Throws kNotFound with the nearest name, kInvalidArgument where several have it.
  Place place_of(const ModelName& name, const MayUse& may_use = {}) const;
  struct Found {
    ServedBase* base;
    std::shared_ptr<const ServedTask> task;
  };
  /// The same, read. The model of all tasks is no task.
  Found find(const ModelName& name, const MayUse& may_use = {}) const;
  /// Names the nearest of those that the caller may use.
  [[noreturn]] void fail_unknown(const ModelName& name, const MayUse& may_use = {}) const;
  std::vector<nlohmann::json> entries(const ServedBase& base, bool ready_only) const;
  void observe(const RequestRows& rows, const RequestTimes& times, const std::exception_ptr& error);
  void work();
  void watch_stores(const std::stop_token& stop) const;

  const EngineOptions options_;
  std::vector<std::unique_ptr<ServedBase>> bases_;  // by name
  std::unique_ptr<EngineMetrics> metrics_;
  EngineStatistics statistics_{kModelsWithStatistics};
  std::unique_ptr<BatchRunner> runner_;
  std::unique_ptr<WorkQueue> queue_;
  std::vector<std::thread> workers_;
  std::atomic<bool> draining_{false};
  std::mutex open_mutex_;
  std::condition_variable answered_;
  std::int64_t open_ = 0;  // requests that are not answered; guarded by open_mutex_
  std::jthread watch_;
};

TaskReference reference(const ModelName& name) { return {name.task, name.version.value_or(0), name.tag}; }

constexpr std::int64_t kMost = std::int64_t{1} << 50, kDayMs = 86'400'000;

void check(const EngineOptions& options) {
  if (options.directories.empty()) fail(Code::kInvalidArgument, "[serve] no model directory given");
  const auto range = [](const char* option, std::int64_t value, std::int64_t least, std::int64_t most = kMost) {
    if (value < least || value > most)
      fail(Code::kInvalidArgument, "[serve] {} must lie in {}..{}, got {}", option, least, most, value);
  };
  range("workers", options.workers, 0, 1'024);
  range("max_batch", options.max_batch, 1);
  range("max_delay", options.max_delay.count(), 0, 1'000 * kDayMs);
  range("max_rows", options.max_rows, 1);
  range("queue_rows", options.queue_rows, options.max_rows);
  range("queue_bytes", options.queue_bytes, 1);
  range("store_grace", options.store_grace.count(), 0, kDayMs);
}

Engine::Engine(const EngineOptions& options, prometheus::Registry* metrics) : options_(options) {
  check(options);
  for (const auto& directory : options.directories)
    bases_.push_back(std::make_unique<ServedBase>(
        directory, options.store, parse_device(options.device),
        ServedBase::Limits{options.task_bytes, options.weight_bytes, options.store_grace}));
  std::ranges::sort(bases_, {}, &ServedBase::name);
  for (const auto& base : bases_)
    if (bases_.size() > 1 && !is_task_name(base->name()))
      fail(Code::kInvalidArgument,
           "[serve] a model directory is called '{}', which no request could name beside others: rename it to 1 to 128 "
           "of A-Z a-z 0-9 . _ - without a dot in front",
           printable(base->name()));
  for (std::size_t i = 1; i < bases_.size(); ++i)
    if (bases_[i - 1]->name() == bases_[i]->name())
      fail(Code::kInvalidArgument, "[serve] two model directories are called '{}': rename one", bases_[i]->name());
  if (metrics) metrics_ = std::make_unique<EngineMetrics>(*metrics, bases_);
  runner_ = std::make_unique<BatchRunner>(options.mixing, options.bf16,
                                          [this](const ServedBase& base, Way way, std::int64_t rows, double seconds) {
                                            if (metrics_) metrics_->pass(base, way, rows, seconds);
                                          });
  const int workers =
      options.workers > 0 ? options.workers : static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  queue_ = std::make_unique<WorkQueue>(
      WorkQueue::Limits{options.queue_rows, options.queue_bytes, options.max_batch, options.max_delay, workers});
  settle_threads();
  for (int i = 0; i < workers; ++i) workers_.emplace_back([this] { work(); });
  watch_ = std::jthread([this](const std::stop_token& stop) { watch_stores(stop); });
}

Engine::~Engine() {
  draining_ = true;
  queue_->close();
  for (std::thread& worker : workers_) worker.join();
}

void Engine::work() {
  own_threads(1);
  const auto base_of = [this](const std::string& name) -> const ServedBase& {
    return **std::ranges::find(bases_, name, &ServedBase::name);
  };
  for (;;) {
    std::vector<WaitingRow> rows = queue_->take();
    if (rows.empty()) return;
    if (metrics_) metrics_->wait(-static_cast<std::int64_t>(rows.size()));
    runner_->run(std::move(rows), base_of);
  }
}

void Engine::watch_stores(const std::stop_token& stop) const {
  std::mutex mutex;
  std::condition_variable_any stopped;
  std::unique_lock lock(mutex);
  while (!stopped.wait_for(lock, stop, kLookAtStores, [&] { return stop.stop_requested(); }))
    for (const auto& base : bases_) base->look_at_store();
}

// ---- names ----------------------------------------------------------------------------------------------------------

std::vector<ServedBase*> Engine::bases_of(const ModelName& name) const {
  std::vector<ServedBase*> found;
  for (const auto& base : bases_)
    if (name.base.empty() || base->name() == name.base) found.push_back(base.get());
  if (!found.empty()) return found;
  std::vector<std::string> names;
  for (const auto& base : bases_) names.push_back(base->name());
  const std::string near = nearest(name.base, names);
  fail(Code::kNotFound, "[serve] no base '{}'{}", printable(name.base),
       near.empty() ? fmt::format(": there are {}", fmt::join(names, ", ")) : ", did you mean '" + near + "'?");
}

void Engine::fail_unknown(const ModelName& name, const MayUse& may_use) const {
  std::vector<std::string> names;
  for (const ServedBase* base : bases_of(name))
    for (const std::string& from : {std::string(), name.task.substr(0, 2)})
      for (TaskName& task : base->directory().store().names_after(from, kNearestAmong))
        if (!may_use || may_use(base->name() + "@" + task.name)) names.push_back(std::move(task.name));
  const std::string near = nearest(name.task, names);
  const std::string which = !name.tag.empty() ? " with tag '" + name.tag + "'"
                            : name.version    ? fmt::format(" version {}", *name.version)
                                              : "";
  fail(Code::kNotFound, "[serve] no model '{}'{}{}", printable(name.task), which,
       near.empty() || near == name.task ? "" : ", did you mean '" + near + "'?");
}

Engine::Place Engine::place_of(const ModelName& name, const MayUse& may_use) const {
  std::optional<Place> found;
  for (ServedBase* base : bases_of(name)) {
    if (may_use && !may_use(base->name() + "@" + name.task)) continue;
    std::optional<Resolved> task = base->resolve(reference(name));
    if (!task) continue;
    if (found)
      fail(Code::kInvalidArgument, "[serve] '{0}' is a task of {1} and of {2}: name it '{1}@{0}' or '{2}@{0}'",
           name.task, found->base->name(), base->name());
    found = {base, std::move(*task)};
  }
  if (!found) fail_unknown(name, may_use);
  return *found;
}

Engine::Found Engine::find(const ModelName& name, const MayUse& may_use) const {
  if (name.mixed) fail(Code::kNotFound, "[serve] '{}' is the model of all tasks and no task", kMixedModel);
  const Place place = place_of(name, may_use);
  if (auto task = place.base->find(place.task)) return {place.base, std::move(task)};
  fail_unknown(name, may_use);  // removed between the two
}

// ---- what is there --------------------------------------------------------------------------------------------------

nlohmann::json Engine::server_metadata() const {
  return {{"name", "recast"},
          {"version", kRecastVersion},
          {"extensions",
           {"binary_tensor_data", "classification", "model_repository", "model_repository(unload_dependents)",
            "parameters", "statistics"}}};
}

bool Engine::model_ready(const std::string& model, const std::string& version) const {
  if (draining_) return false;
  const ModelName name = parse_model_name(model, version);
  if (!name.mixed) place_of(name);
  return true;
}

nlohmann::json Engine::model_metadata(const std::string& model, const std::string& version) const {
  ModelShape shape;
  nlohmann::json versions = nlohmann::json::array();
  const ModelName name = parse_model_name(model, version);
  shape.mixed = name.mixed;
  if (shape.mixed) {
    if (bases_.size() == 1) shape.features = bases_.front()->directory().backbone()->feature_width();
  } else {
    const auto task = find(name).task;
    shape.classes = task->classes();
    shape.features = task->model.backbone().feature_width();
    versions.push_back(std::to_string(task->version));
  }
  return {{"name", model},
          {"versions", versions},
          {"platform", "recast"},
          {"inputs", describe_inputs(shape)},
          {"outputs", describe_outputs(shape)}};
}

std::vector<nlohmann::json> Engine::entries(const ServedBase& base, bool ready_only) const {
  constexpr std::int64_t kPage = 1000;
  std::vector<nlohmann::json> list;
  std::vector<TaskName> names;
  do {
    names = base.directory().store().names_after(names.empty() ? "" : names.back().name, kPage);
    for (const TaskName& task : names) {
      const bool unloaded = base.unloaded(task.name);
      if (unloaded && ready_only) continue;
      list.push_back({{"name", bases_.size() == 1 ? task.name : base.name() + "@" + task.name},
                      {"version", std::to_string(task.version)},
                      {"state", unloaded ? "UNAVAILABLE" : "READY"},
                      {"reason", unloaded ? "unloaded" : ""}});
    }
  } while (static_cast<std::int64_t>(names.size()) == kPage);
  return list;
}

nlohmann::json Engine::repository_index(bool ready_only) const {
  std::vector<nlohmann::json> list = {{{"name", kMixedModel}, {"state", "READY"}, {"reason", ""}}};
  for (const auto& base : bases_) {
    std::vector<nlohmann::json> more = entries(*base, ready_only);
    std::ranges::move(more, std::back_inserter(list));
  }
  return list;
}

nlohmann::json Engine::task(const std::string& model, bool history) const {
  const ModelName name = parse_model_name(model);
  const Found found = find(name);
  return describe_served_task(*found.base, *found.task, name.base.empty() ? name.task : name.base + "@" + name.task,
                              history);
}

void Engine::load(const std::string& model) {
  const ModelName name = parse_model_name(model, "");
  for (ServedBase* base : bases_of(name)) {
    const bool was_unloaded = base->unloaded(name.task);
    base->load(name.task);
    const std::optional<Resolved> task = base->resolve(reference(name));
    if (task && base->find(*task)) return;
    if (was_unloaded) base->unload(name.task);
  }
  fail_unknown(name);
}

void Engine::unload(const std::string& model) {
  const ModelName name = parse_model_name(model, "");
  ServedBase& base = *place_of(name).base;
  base.unload(name.task);
  if (metrics_) metrics_->kept(base);
}

nlohmann::json Engine::statistics(const std::string& model, const std::string& version) const {
  if (!model.empty()) {
    const ModelName name = parse_model_name(model, version);
    if (!name.mixed) place_of(name);
  }
  return {{"model_stats", statistics_.model_stats(model, version)}};
}

// ---- requests -------------------------------------------------------------------------------------------------------

void Engine::observe(const RequestRows& rows, const RequestTimes& times, const std::exception_ptr& error) {
  statistics_.add(rows.request.model, rows.version(), rows, times, error != nullptr);
  if (metrics_) metrics_->request(rows, times, error != nullptr);
}

void Engine::infer(InferenceRequest request, CallContext context, std::function<void(InferenceResult)> done) {
  {
    const std::lock_guard lock(open_mutex_);
    ++open_;
  }
  const auto answer = [this, done = std::move(done)](InferenceResult result) {
    const Closing closing{*this};
    done(std::move(result));
  };
  try {
    if (draining_) fail(Code::kUnavailable, "[serve] the server is shutting down: ask another");
    const auto lookup = [&](const std::string& model, const std::string& version) {
      return find(parse_model_name(model, version), context.may_use).task;
    };
    RequestRows rows = read_rows(std::move(request), lookup, options_.max_rows);
    const std::int64_t count = rows.rows(), bytes = rows.bytes;
    const std::string caller = context.caller;
    const auto ticket =
        std::make_shared<Ticket>(std::move(rows), std::move(context), answer,
                                 [this](const RequestRows& of, const RequestTimes& times,
                                        const std::exception_ptr& error) { observe(of, times, error); });
    if (metrics_) metrics_->wait(count);
    if (queue_->push(ticket, caller, count, bytes)) return;
    if (metrics_) metrics_->wait(-count);
    ticket->fail(std::make_exception_ptr(
        Error(Code::kUnavailable, fmt::format("[serve] {} rows wait already: try again later", queue_->waiting()))));
  } catch (...) {
    answer(error_at_hand());
  }
}

bool Engine::drain(Clock::time_point deadline) {
  draining_ = true;
  std::unique_lock lock(open_mutex_);
  return answered_.wait_until(lock, deadline, [this] { return open_ == 0; });
}

}  // namespace

std::unique_ptr<Service> make_engine(const EngineOptions& options, prometheus::Registry* metrics) {
  return std::make_unique<Engine>(options, metrics);
}

}  // namespace recast
