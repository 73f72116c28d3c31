#pragma once
// A small classifier behind the interface that transports call, without backbone and store: model "NAME" has the
// classes that it was made with, and logit c of a row x is the sum of (c + 1) * x[j] over j. Tests of transports alone
// use it.
#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "base/becomes_true.h"
#include "recast/base/error.h"
#include "recast/serve/service.h"

namespace recast {

class LinearService : public Service {
 public:
  explicit LinearService(std::map<std::string, std::int64_t> classes) : classes_(std::move(classes)) {
    worker_ = std::thread([this] { work(); });
  }
  ~LinearService() override {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
      held_ = false;
    }
    changed_.notify_all();
    worker_.join();
  }

  /// Requests wait from now on, until release().
  void hold() {
    const std::lock_guard lock(mutex_);
    held_ = true;
  }
  void release() {
    {
      const std::lock_guard lock(mutex_);
      held_ = false;
    }
    changed_.notify_all();
  }
  /// Whether so many requests come to wait.
  bool wait_for(std::size_t waiting) const {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(30), [&] { return queue_.size() >= waiting; });
  }
  /// Whether every request that waits is cancelled in the end.
  bool wait_for_cancelled() const {
    return becomes_true([this] {
      const std::lock_guard lock(mutex_);
      return !queue_.empty() &&
             std::ranges::all_of(queue_, [](const Job& job) { return job.context.cancelled->load(); });
    });
  }
  std::size_t computed() const {
    const std::lock_guard lock(mutex_);
    return computed_;
  }
  std::set<std::string> loaded() const {
    const std::lock_guard lock(mutex_);
    return loaded_;
  }
  /// What infer() fails with from now on.
  void break_with(Code code, std::string message) {
    const std::lock_guard lock(mutex_);
    failure_ = Error(code, message);
  }

  bool live() const override { return true; }
  bool ready() const override {
    const std::lock_guard lock(mutex_);
    return !draining_;
  }
  nlohmann::json server_metadata() const override {
    return {{"name", "recast"}, {"version", "0"}, {"extensions", {"binary_tensor_data", "statistics"}}};
  }
  bool model_ready(const std::string& model, const std::string& version) const override {
    return find(model, version) > 0;
  }
  nlohmann::json model_metadata(const std::string& model, const std::string& version) const override {
    const std::int64_t classes = find(model, version);
    return {{"name", model},
            {"versions", {"1"}},
            {"platform", "recast"},
            {"inputs", {{{"name", "x"}, {"datatype", "FP32"}, {"shape", {-1, -1}}}}},
            {"outputs", {{{"name", "logits"}, {"datatype", "FP32"}, {"shape", {-1, classes}}}}}};
  }
  nlohmann::json repository_index(bool ready_only) const override {
    nlohmann::json index = nlohmann::json::array();
    const std::lock_guard lock(mutex_);
    for (const auto& [name, classes] : classes_) {
      const bool ready = !unloaded_.contains(name);
      if (ready || !ready_only)
        index.push_back({{"name", name}, {"version", "1"}, {"state", ready ? "READY" : "UNAVAILABLE"}, {"reason", ""}});
    }
    return index;
  }
  nlohmann::json tasks(const TaskQuery& query) const override {
    nlohmann::json tasks = nlohmann::json::array();
    for (const auto& [name, classes] : classes_) {
      if (name <= query.after || name.find(query.search) == name.npos) continue;
      if (query.may_use && !query.may_use(name)) continue;
      if (static_cast<std::int64_t>(tasks.size()) == query.limit)
        return {{"tasks", tasks}, {"next", tasks.back()["name"]}};
      tasks.push_back({{"name", name}, {"base", "linear"}, {"ready", true}, {"classes", classes}});
    }
    return {{"tasks", tasks}, {"next", nullptr}};
  }
  nlohmann::json task(const std::string& model, bool /*history*/) const override {
    std::vector<std::string> labels;
    for (std::int64_t c = 0, classes = find(model); c < classes; ++c) labels.push_back("class " + std::to_string(c));
    return {{"name", model}, {"base", "linear"}, {"task", model},
            {"version", 1},  {"labels", labels}, {"versions", nlohmann::json::array()}};
  }
  void load(const std::string& model) override {
    find(model);
    const std::lock_guard lock(mutex_);
    loaded_.insert(model);
    unloaded_.erase(model);
  }
  void unload(const std::string& model) override {
    find(model);
    const std::lock_guard lock(mutex_);
    loaded_.erase(model);
    unloaded_.insert(model);
  }
  nlohmann::json statistics(const std::string& model, const std::string& version) const override {
    if (!model.empty()) find(model, version);
    nlohmann::json stats = nlohmann::json::array();
    const std::lock_guard lock(mutex_);
    for (const auto& [name, count] : counts_)
      if (model.empty() || model == name)
        stats.push_back({{"name", name},
                         {"version", "1"},
                         {"last_inference", 0},
                         {"inference_count", count},
                         {"execution_count", count},
                         {"inference_stats", nlohmann::json::object()},
                         {"batch_stats", nlohmann::json::array()}});
    return {{"model_stats", stats}};
  }

  void infer(InferenceRequest request, CallContext context, std::function<void(InferenceResult)> done) override {
    {
      const std::lock_guard lock(mutex_);
      queue_.push_back({std::move(request), std::move(context), std::move(done)});
    }
    changed_.notify_all();
  }

  bool drain(std::chrono::steady_clock::time_point deadline) override {
    std::unique_lock lock(mutex_);
    draining_ = true;
    return changed_.wait_until(lock, deadline, [&] { return queue_.empty(); });
  }

 private:
  struct Job {
    InferenceRequest request;
    CallContext context;
    std::function<void(InferenceResult)> done;
  };

  std::int64_t find(const std::string& model, const std::string& version = "") const {
    if (!version.empty() && version != "1") fail(Code::kNotFound, "[serve] no version {} of '{}'", version, model);
    const auto found = classes_.find(model);
    if (found != classes_.end()) return found->second;
    std::vector<std::string> names;
    for (const auto& [name, classes] : classes_) names.push_back(name);
    fail(Code::kNotFound, "[serve] no model '{}', did you mean '{}'?", model, nearest(model, names));
  }

  std::optional<Error> failure() const {
    const std::lock_guard lock(mutex_);
    return failure_;
  }

  InferenceResponse answer(const InferenceRequest& request) {
    if (const std::optional<Error> failure = this->failure()) throw Error(*failure);
    const std::int64_t classes = find(request.model, request.version);
    if (request.inputs.size() != 1 || request.inputs[0].datatype != "FP32" || request.inputs[0].shape.size() != 2)
      fail(Code::kInvalidArgument, "[serve] inputs: expected one, FP32 [N, D]");
    const WireTensor& x = request.inputs[0];
    WireTensor logits{.name = "logits", .datatype = "FP32", .shape = {x.shape[0], classes}, .bytes = {}};
    for (std::int64_t row = 0; row < x.shape[0]; ++row) {
      float sum = 0;
      for (std::int64_t j = 0; j < x.shape[1]; ++j) {
        float value;
        std::memcpy(&value, x.bytes.data() + 4 * (row * x.shape[1] + j), 4);
        sum += value;
      }
      for (std::int64_t c = 0; c < classes; ++c) {
        const float logit = sum * static_cast<float>(c + 1);
        logits.bytes.append(reinterpret_cast<const char*>(&logit), 4);
      }
    }
    const std::lock_guard lock(mutex_);
    ++computed_;
    counts_[request.model] += x.shape[0];
    return {.model = request.model, .version = "1", .id = request.id, .outputs = {logits}};
  }

  void work() {
    for (;;) {
      Job job;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return (!queue_.empty() && !held_) || (ending_ && queue_.empty()); });
        if (queue_.empty()) return;
        job = std::move(queue_.front());
        queue_.pop_front();
      }
      InferenceResult result;
      try {
        if (*job.context.cancelled) fail(Code::kCancelled, "[serve] nobody waits");
        if (job.context.may_use && !job.context.may_use(job.request.model))
          fail(Code::kNotFound, "[serve] no model '{}'", job.request.model);
        result = answer(job.request);
      } catch (...) {
        result = std::current_exception();
      }
      job.done(std::move(result));
      changed_.notify_all();
    }
  }

  const std::map<std::string, std::int64_t> classes_;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::deque<Job> queue_;
  std::set<std::string> loaded_, unloaded_;
  std::map<std::string, std::int64_t> counts_;
  std::optional<Error> failure_;
  std::size_t computed_ = 0;
  bool held_ = false, ending_ = false, draining_ = false;
  std::thread worker_;
};

}  // namespace recast
