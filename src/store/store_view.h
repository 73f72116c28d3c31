#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "recast/store/task_store.h"
#include "shared_rows.h"
#include "sqlite.h"
#include "state_storage.h"
#include "task_rows.h"

namespace recast {

/// What one connection shows of the store, as TaskStore says: answers put together from rows. An absence is believed
/// only where two indexes say so, since a page that is damaged may hide a row and no seal with it.
/// Locks    none: its caller has the connection for itself and has begun a Transaction.
/// Owns     nothing; the database outlives it.
/// Throws   as TaskStore.
class StoreView {
 public:
  /// `blobs`: the folder.  `fingerprint`: of the model directory.
  StoreView(Database& database, const std::filesystem::path& blobs, std::string fingerprint)
      : tasks(database),
        shared(database),
        states(database, blobs),
        database_(database),
        fingerprint_(std::move(fingerprint)) {}

  std::optional<TaskRecord> load(std::string_view name, std::int64_t version) const;
  std::optional<TaskRecord> load(const Resolved& resolved) const;
  std::optional<Resolved> resolve(std::string_view name, std::int64_t version, std::string_view tag) const;
  std::vector<TaskName> names_after(std::string_view name, std::int64_t limit) const;
  std::vector<TaskSummary> log(std::string_view name) const;
  std::optional<Numbers> shared_numbers(const std::string& name) const;

  /// The newest version; 0: no such task.
  std::int64_t newest(std::string_view name) const;
  /// kNotFound with the nearest name.
  [[noreturn]] void not_found(std::string_view name) const;
  /// Throws kShapeMismatch.
  void require_same_backbone(const std::string& what, const std::string& name, const std::string& fingerprint) const;

  TaskRows tasks;
  SharedRows shared;
  StateStorage states;

 private:
  std::int64_t require_newest(std::string_view name) const;
  std::optional<VersionRow> version(std::string_view name, std::int64_t version) const;
  std::optional<SharedVersion> follows(const VersionRow& row, bool newest) const;
  std::string digest(std::int64_t state, std::optional<std::int64_t> beside) const;
  TaskRecord read(std::string_view name, const VersionRow& row, const std::optional<SharedVersion>& follows) const;
  std::int64_t shared_state(const SharedVersion& version) const;
  Numbers numbers_of(const SharedVersion& version) const;

  Database& database_;
  std::string fingerprint_;
};

}  // namespace recast
