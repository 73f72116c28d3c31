#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "recast/store/task_store.h"
#include "sqlite.h"

namespace recast {

/// What a version holds beside its state: one row of the table `versions`.
struct VersionRow {
  std::int64_t version, parent, state;
  std::string created_utc, fingerprint;
  std::optional<SharedVersion> follows;
};

/// A row of the table `states`, written by StateStorage, and what it takes in the store.
struct StoredState {
  std::int64_t id, bytes;
};

enum class HiddenBy {
  kPerson,
  kRollback  ///< of the shared state that the task follows: another rollback can show it again
};

/// Rows of the tables `tasks`, `versions` and `tags`: single statements. What may be done to whom is for SqliteStore to
/// say; here an absence is an answer.
/// Locks    none: its caller holds the store's mutex and has begun a Transaction; where rows change a Change, which
///          seals them.
/// Owns     nothing; the database outlives it.
/// Throws   as TaskStore; kDataCorruption too where a row that is read does not match its seal.
class TaskRows {
 public:
  explicit TaskRows(Database& database) : database_(database) {}

  // ---- tasks ----
  /// Whether the task is hidden; nothing: no such task. Looked for in both indexes of the table: throws kDataCorruption
  /// where one has it and the other has not.
  std::optional<bool> hidden(std::string_view name) const;
  /// As names_after() of TaskStore, hidden ones too, one after another; `take` says whether to go on.
  void visit_after(std::string_view name, const std::function<bool(const std::string& name, bool hidden)>& take) const;
  std::vector<std::string> names() const;
  std::vector<std::string> visible_names() const;
  /// Another task whose name differs in upper and lower case only.
  std::optional<std::string> case_twin(std::string_view name) const;
  /// Makes the task, or shows it again.
  void show(std::string_view name);
  void show_if_hidden_by_rollback(std::string_view name);
  /// False: no such task, or hidden already.
  bool hide(std::string_view name, HiddenBy by);
  /// With its versions and tags. False: no such task.
  bool erase(std::string_view name);

  // ---- versions ----
  std::optional<VersionRow> last(std::string_view name) const;
  /// 0: none.
  std::int64_t newest(std::string_view name) const;
  std::optional<VersionRow> version(std::string_view name, std::int64_t version) const;
  /// The last version that follows no shared state, or `follows`, by the index versions_by_follows; 0: none.
  std::int64_t last_alone(std::string_view name) const;
  std::int64_t last_following(std::string_view name, const SharedVersion& follows) const;
  /// The first task after `name` in the order of bytes that has versions; empty: none.
  std::string next_with_versions(std::string_view name) const;
  void insert(const TaskRecord& task, std::int64_t version, const std::optional<SharedVersion>& follows,
              const StoredState& state);
  /// Copies a version as the newest, which is returned. follows_version 0: as the version copied.
  std::int64_t copy(std::string_view name, std::int64_t version, std::int64_t follows_version);
  /// The newest version of each task, by name.
  std::vector<TaskSummary> newest_of_each(bool with_removed) const;
  /// All versions of a task, oldest first.
  std::vector<TaskSummary> all_of(std::string_view name) const;

  // ---- tags ----
  /// The version that a tag names. Looked for in both indexes of the table, as hidden().
  std::optional<std::int64_t> tagged(std::string_view name, std::string_view tag) const;
  /// Another tag of the task that differs in upper and lower case only.
  std::optional<std::string> tag_twin(std::string_view name, std::string_view tag) const;
  /// Also moves a tag that there is.
  void set_tag(std::string_view name, std::string_view tag, std::int64_t version);
  /// False: no such tag.
  bool erase_tag(std::string_view name, std::string_view tag);

 private:
  Database& database_;
};

}  // namespace recast
