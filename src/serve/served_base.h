#pragma once
#include <set>
#include <shared_mutex>

#include "byte_cache.h"
#include "cost_model.h"
#include "made_weights.h"
#include "served_task.h"
#include "store_reach.h"

namespace recast {

/// One model directory while it is served: its tasks by name, and what is kept of them. Threads: all calls in parallel.
class ServedBase {
 public:
  struct Limits {
    std::int64_t task_bytes, weight_bytes;
    std::chrono::milliseconds store_grace;  ///< as EngineOptions has it
  };
  ServedBase(const std::filesystem::path& path, const std::string& store, at::Device device, const Limits& limits);

  const std::string& name() const { return name_; }
  const ModelDirectory& directory() const { return directory_; }
  TemplateBanks& banks() const { return banks_; }
  CostModel& costs() const { return costs_; }
  ByteCache<const MadeModel>& weights() const { return weights_; }
  const ByteCache<const ServedTask>& tasks() const { return tasks_; }

  /// The version that the reference means now; hidden or not loaded: nothing. From the store where that changed since,
  /// else from memory; while the store is out of reach, and for the grace at most, what it meant last.
  std::optional<Resolved> resolve(const TaskReference& task) const;
  /// What was resolved, read from the store where it is not kept. Null: purged since.
  std::shared_ptr<const ServedTask> find(const Resolved& task) const;

  /// Asks the store whether it is there.
  void look_at_store() const noexcept;
  /// Whether the store was there when it was asked last, or has not been away for longer than the grace.
  bool has_store() const;

  /// What is kept of a task goes; until it is loaded again resolve() gives nothing.
  void unload(const std::string& task);
  void load(const std::string& task);
  bool unloaded(const std::string& task) const;

 private:
  /// A name as it was resolved when the store stood at this count of changes; nothing: there was no such task.
  struct KnownName {
    std::int64_t changes = 0;
    std::optional<Resolved> resolved;
  };

  std::int64_t changes() const;
  std::optional<Resolved> resolve(const TaskReference& task, const std::string& key, const KnownName* known) const;

  const ModelDirectory directory_;
  const std::string name_;
  const std::chrono::milliseconds grace_;
  mutable StoreReach reach_;
  mutable TemplateBanks banks_;
  mutable CostModel costs_;
  mutable ByteCache<const KnownName> names_;    // by reference
  mutable ByteCache<const ServedTask> tasks_;   // by digest and version: a rollback gives an old digest a new version
  mutable ByteCache<const MadeModel> weights_;  // by digest
  mutable std::shared_mutex unloaded_mutex_;
  std::set<std::string, std::less<>> unloaded_;
};

}  // namespace recast
