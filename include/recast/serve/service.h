#pragma once
#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <variant>

#include "recast/serve/inference.h"

namespace recast {

/// What an inference took, for who keeps accounts. Times are summed over its rows.
struct InferenceAccount {
  std::int64_t rows = 0;
  std::string tasks;  ///< "vit@cars:3,vit@pets:1", each once, one or what fits in 200 bytes; ",+4": so many more
  std::int64_t queue_ns = 0, compute_ns = 0;
};

/// What a transport knows of a call beside its content.
struct CallContext {
  std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();
  /// Set by the transport once nobody waits for the answer any more: what is not computed yet is dropped.
  std::shared_ptr<const std::atomic<bool>> cancelled;
  /// Who calls, as far as the transport can tell: callers take turns, and none gets all of what is bounded.
  std::string caller = {};
  /// Which models the caller may use, of all those there are; null: all.
  std::function<bool(std::string_view model)> may_use;
  /// Filled before `done` is called, as far as the request got; null: nobody asks.
  std::shared_ptr<InferenceAccount> account;
};

/// Which tasks to list.
struct TaskQuery {
  static constexpr std::int64_t kMostTasks = 100;
  std::string after = {};   ///< `next` of the page before; empty: from the beginning
  std::string search = {};  ///< what a name holds, capital or not; with an @ in it what BASE@TASK holds; empty: all
  std::int64_t limit = 50;  ///< 1..kMostTasks
  /// Which models the caller may use; null: all.
  std::function<bool(std::string_view model)> may_use = {};
};

/// The answer or an Error.
using InferenceResult = std::variant<InferenceResponse, std::exception_ptr>;

/// What the protocol offers, once for all transports (HTTP, gRPC): transports parse, check who calls, and write; what a
/// request means is decided here. A model is a stored task, "NAME", "NAME:VERSION" or "BASE@NAME", beside one model
/// "recast" whose rows name their tasks themselves. JSON results are those of the protocol's HTTP form; its gRPC
/// messages have the same fields.
/// Threads  all calls in parallel; none blocks on a computation but for store reads.
/// Throws   Error: kNotFound names the nearest model; kInvalidArgument names the field; kUnavailable: queue full or
///          shutting down, try again later.
class Service {
 public:
  virtual ~Service() = default;

  virtual bool live() const = 0;
  /// False before the first and after the last request that is taken.
  virtual bool ready() const = 0;
  /// {name, version, extensions: [...]}
  virtual nlohmann::json server_metadata() const = 0;
  virtual bool model_ready(const std::string& model, const std::string& version) const = 0;
  /// {name, versions: [...], platform, inputs: [{name, datatype, shape, optional}], outputs: [...], labels...}
  virtual nlohmann::json model_metadata(const std::string& model, const std::string& version) const = 0;
  /// [{name, version, state, reason}], ordered by name; `ready_only`: only those that answer.
  virtual nlohmann::json repository_index(bool ready_only) const = 0;
  /// What a person reads of the tasks, by base and name:
  /// {tasks: [{name, base, ready, and of the newest version what list_tasks() has of it}], next: text or null}.
  /// Of many names a bounded number is looked at, so `next` may follow on fewer than `limit`, or none.
  /// Throws kInvalidArgument: `after` is no `next`, or the limit out of range.
  virtual nlohmann::json tasks(const TaskQuery& query) const = 0;
  /// {name, base, task, version, labels, image_size, versions: [as list_tasks() has them, oldest first]}; labels and
  /// image size are those of the version that `model` names, `name` is what it says without one. Without its `history`
  /// there are no versions, and the store need not be read for them.
  virtual nlohmann::json task(const std::string& model, bool history = true) const = 0;
  /// Makes a task ready ahead of its first request, or drops what is kept of it; a task that was unloaded answers again
  /// once it is loaded.
  virtual void load(const std::string& model) = 0;
  virtual void unload(const std::string& model) = 0;
  /// {model_stats: [...]} as the statistics extension has it; an empty model: all that were used.
  virtual nlohmann::json statistics(const std::string& model, const std::string& version) const = 0;

  /// `done` is called exactly once, from any thread, possibly before this returns. Never throws.
  virtual void infer(InferenceRequest request, CallContext context, std::function<void(InferenceResult)> done) = 0;

  /// No more requests from now on: new ones are answered with kUnavailable; returns once those taken are answered, or
  /// at the deadline. Returns whether all were.
  virtual bool drain(std::chrono::steady_clock::time_point deadline) = 0;
};

}  // namespace recast
