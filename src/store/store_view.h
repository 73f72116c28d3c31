#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "recast/store/task_store.h"
#include "shared_rows.h"
#include "state_storage.h"
#include "task_rows.h"

namespace recast {

/// What one connection shows of a store of any kind, as TaskStore says: answers put together from rows.
/// Locks    none: its caller has the connection for itself and has begun a transaction.
/// Owns     nothing; the rows outlive it.
/// Throws   as TaskStore.
class StoreView {
 public:
  /// `fingerprint`: of the model directory.  `shown`: how messages name the store.
  StoreView(TaskRows& tasks, SharedRows& shared, StateStorage& states, std::string fingerprint, std::string shown)
      : tasks_(tasks),
        shared_(shared),
        states_(states),
        fingerprint_(std::move(fingerprint)),
        shown_(std::move(shown)) {}

  std::optional<TaskRecord> load(std::string_view name, std::int64_t version) const;
  std::optional<TaskRecord> load(const Resolved& resolved) const;
  std::optional<Resolved> resolve(std::string_view name, std::int64_t version, std::string_view tag) const;
  std::vector<TaskSummary> log(std::string_view name) const;
  std::optional<Numbers> shared_numbers(const std::string& name) const;

  /// Nothing: no such version. Throws kDataCorruption: it is missing among others.
  std::optional<VersionRow> version(std::string_view name, std::int64_t version) const;
  /// kNotFound with the nearest name; kShapeMismatch where another backbone has a task of that name.
  [[noreturn]] void not_found(std::string_view name) const;
  /// Throws kShapeMismatch.
  void require_same_backbone(const std::string& what, const std::string& name, const std::string& fingerprint) const;

  const TaskRows& tasks() const { return tasks_; }
  const SharedRows& shared() const { return shared_; }
  TaskRows& tasks() { return tasks_; }
  SharedRows& shared() { return shared_; }
  StateStorage& states() { return states_; }

 private:
  std::int64_t require_newest(std::string_view name) const;
  std::optional<SharedVersion> follows(const VersionRow& row, bool newest) const;
  std::string digest(std::int64_t state, std::optional<std::int64_t> beside) const;
  TaskRecord read(std::string_view name, const VersionRow& row, const std::optional<SharedVersion>& follows) const;
  std::int64_t shared_state(const SharedVersion& version) const;
  Numbers numbers_of(const SharedVersion& version) const;

  TaskRows& tasks_;
  SharedRows& shared_;
  StateStorage& states_;
  const std::string fingerprint_, shown_;
};

}  // namespace recast
