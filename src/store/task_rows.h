#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "plugs_json.h"
#include "recast/format/canonical_json.h"
#include "recast/store/task_store.h"

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

/// Rows of the tables `tasks`, `versions` and `tags`: single statements. What may be done to whom is for StoreEdit to
/// say; here an absence is an answer.
/// Locks    none: its caller has the connection for itself and has begun a transaction; where rows change, one that
///          seals them and keeps other writers out.
/// Throws   as TaskStore; kDataCorruption too where a row that is read does not match its seal.
class TaskRows {
 public:
  virtual ~TaskRows() = default;

  // ---- tasks ----
  /// Whether the task is hidden; nothing: no such task. Sure of both, as proven_newest().
  virtual std::optional<bool> hidden(std::string_view name) const = 0;
  /// The fingerprint of another backbone that has a task of this name, where a store keeps backbones apart and shows
  /// the rows of one.
  virtual std::optional<std::string> other_backbone(std::string_view name) const = 0;
  /// As names_after() of TaskStore.
  virtual std::vector<TaskName> visible_after(std::string_view name, std::int64_t limit) const = 0;
  /// Tasks with versions that follow the shared state, and perhaps others.
  virtual std::vector<std::string> followers(const std::string& shared) const = 0;
  virtual std::vector<std::string> visible_names() const = 0;
  /// Another task whose name differs in upper and lower case only.
  virtual std::optional<std::string> case_twin(std::string_view name) const = 0;
  /// Makes the task, or shows it again.
  virtual void show(std::string_view name) = 0;
  virtual void show_if_hidden_by_rollback(std::string_view name) = 0;
  /// False: no such task, or hidden already.
  virtual bool hide(std::string_view name, HiddenBy by) = 0;
  /// With its versions and tags. False: no such task.
  virtual bool erase(std::string_view name) = 0;

  // ---- versions ----
  virtual std::optional<VersionRow> last(std::string_view name) const = 0;
  /// 0: none.
  std::int64_t newest(std::string_view name) const {
    const auto row = last(name);
    return row ? row->version : 0;
  }
  /// As newest(), and sure that no later row is hidden by damage, as far as this kind of store can be. While all rows
  /// are sealed.
  virtual std::int64_t proven_newest(std::string_view name) const = 0;
  virtual std::optional<VersionRow> version(std::string_view name, std::int64_t version) const = 0;
  virtual void insert(const TaskRecord& task, std::int64_t version, const std::optional<SharedVersion>& follows,
                      const StoredState& state) = 0;
  /// Copies a version as the newest, which is returned. follows_version 0: as the version copied.
  virtual std::int64_t copy(std::string_view name, std::int64_t version, std::int64_t follows_version) = 0;
  /// The newest version of each task, by name.
  virtual std::vector<TaskSummary> newest_of_each(bool with_removed) const = 0;
  /// Of one task or more.
  virtual std::vector<TaskSummary> newest_of(const std::vector<std::string>& names) const = 0;
  /// All versions of a task, oldest first.
  virtual std::vector<TaskSummary> all_of(std::string_view name) const = 0;

  // ---- tags ----
  /// The version that a tag names. Sure of it, as hidden().
  virtual std::optional<std::int64_t> tagged(std::string_view name, std::string_view tag) const = 0;
  /// Another tag of the task that differs in upper and lower case only.
  virtual std::optional<std::string> tag_twin(std::string_view name, std::string_view tag) const = 0;
  /// Also moves a tag that there is.
  virtual void set_tag(std::string_view name, std::string_view tag, std::int64_t version) = 0;
  /// False: no such tag.
  virtual bool erase_tag(std::string_view name, std::string_view tag) = 0;
};

// ---- what the tables of every kind of store have in common ----

/// At the end of `removed_utc` where a rollback of the shared state has hidden the task, and not a person.
inline constexpr std::string_view kByRollback = " rollback";
/// `removed_utc` of a task that is hidden now.
std::string removed_utc(HiddenBy by);
/// Of all tensors of the scope.
std::int64_t tensor_bytes(const Numbers& numbers, Scope scope);

// Rows of any kind of database: step() goes to the next one, and text(), integer() and is_null() read its columns.

/// Task and version -> tags of that version, sorted.
using VersionTags = std::map<std::pair<std::string, std::int64_t>, std::vector<std::string>>;

/// Columns task, version, tag, in the order of task and tag; `check` is called at each row.
template <class Rows, class Check>
VersionTags read_tags(Rows& rows, const Check& check) {
  VersionTags tags;
  while (rows.step()) {
    check(rows);
    tags[{rows.text(0), rows.integer(1)}].push_back(rows.text(2));
  }
  return tags;
}

/// What read_summaries() takes, of `versions v` and `tasks t`; behind them the count of the task's versions.
inline constexpr const char* kSummaryColumns =
    "v.task, v.version, t.removed_utc, v.state_bytes, v.file_bytes, v.created_utc, v.classes, v.plugs, v.metrics";
inline constexpr int kAfterSummary = 10;  // the first column behind these and the count

template <class Rows, class Check>
std::vector<TaskSummary> read_summaries(Rows& rows, VersionTags tags, const std::string& origin, const Check& check) {
  std::vector<TaskSummary> list;
  while (rows.step()) {
    check(rows);
    list.push_back({.name = rows.text(0),
                    .version = rows.integer(1),
                    .versions = rows.integer(9),
                    .tags = {},
                    .removed = !rows.is_null(2),
                    .state_bytes = rows.integer(3),
                    .file_bytes = rows.integer(4),
                    .created_utc = rows.text(5),
                    .classes = rows.integer(6),
                    .plugs = decode_plugs(rows.text(7), origin),
                    .metrics = parse_json(rows.text(8), origin)});
    if (const auto found = tags.find({list.back().name, list.back().version}); found != tags.end())
      list.back().tags = std::move(found->second);
  }
  return list;
}

}  // namespace recast
