#include "sqlite_task_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <iterator>
#include <set>

#include "recast/base/utc.h"
#include "recast/format/canonical_json.h"
#include "seals.h"
#include "sqlite_shared_rows.h"

namespace recast {
namespace {

std::vector<std::string> names_in(const Database& database, const char* sql) {
  std::vector<std::string> names;
  for (Statement rows(database, sql); rows.step();) names.push_back(rows.text(0));
  return names;
}

bool changed_rows(const Database& database) { return sqlite3_changes(database.handle()) > 0; }

/// Of a row `v` of `versions`.
constexpr const char* kIsNewest = "v.version = (SELECT max(version) FROM versions WHERE task = v.task)";

/// Columns as read_version() takes them.
std::string select_version(const char* condition) {
  return fmt::format(
      "SELECT version, parent, state, created_utc, fingerprint, follows, follows_version, {} FROM versions WHERE {}",
      seal_holds("versions"), condition);
}

std::optional<VersionRow> read_version(Statement& row) {
  if (!row.step()) return {};
  row.require_seal(7);
  VersionRow found{row.integer(0), row.integer(1), row.integer(2), row.text(3), row.text(4), {}};
  if (!row.is_null(5)) found.follows = SharedVersion{row.text(5), row.integer(6)};
  return found;
}

/// In the order of the table's primary key, so that no index, which nobody seals, decides what is shown.
std::string select_tags(const char* where = "") {
  return fmt::format("SELECT task, version, tag, {} FROM tags {} ORDER BY task, tag", seal_holds("tags"), where);
}

/// Of rows that seal_holds() of `columns` follow.
auto sealed(std::initializer_list<int> columns) {
  return [columns = std::vector<int>(columns)](const Statement& row) {
    for (const int column : columns) row.require_seal(column);
  };
}

std::string select_summaries(const char* condition) {
  return fmt::format(
      "SELECT {}, (SELECT count(*) FROM versions WHERE task = v.task), {}, {} FROM versions v JOIN tasks t ON t.name = "
      "v.task WHERE {} ORDER BY v.task, v.version",
      kSummaryColumns, seal_holds("versions", "v."), seal_holds("tasks", "t."), condition);
}

std::vector<TaskSummary> summaries_of(Statement& tags, Statement& rows, const Database& database) {
  return read_summaries(rows, read_tags(tags, sealed({3})), database.shown(),
                        sealed({kAfterSummary, kAfterSummary + 1}));
}

}  // namespace

// ---- tasks ----

std::optional<bool> SqliteTaskRows::hidden(std::string_view name) const {
  static const std::string sql =
      fmt::format("SELECT removed_utc IS NOT NULL, {} FROM tasks WHERE name = ?", seal_holds("tasks"));
  static const std::string again =
      "SELECT 1 FROM tasks INDEXED BY tasks_without_case WHERE name = ?1 COLLATE NOCASE AND name = ?1";
  Statement row(database_, sql, kKept), other(database_, again, kKept);
  const bool there = row.bind(name).step();
  if (there != other.bind(name).step()) database_.fail_damaged("two indexes of tasks differ");
  if (!there) return {};
  row.require_seal(1);
  return row.integer(0) == 1;
}

std::optional<std::string> SqliteTaskRows::other_backbone(std::string_view) const { return {}; }

std::vector<TaskName> SqliteTaskRows::visible_after(std::string_view name, std::int64_t limit) const {
  static const std::string sql = fmt::format(
      "SELECT name, removed_utc IS NOT NULL, {} FROM tasks WHERE name > ? ORDER BY name", seal_holds("tasks"));
  std::vector<TaskName> names;
  std::string last(name);
  Statement rows(database_, sql, kKept);
  for (rows.bind(name); static_cast<std::int64_t>(names.size()) < limit;) {
    const bool there = rows.step();
    if (there) rows.require_seal(2);
    const std::string next = there ? rows.text(0) : "";
    if (next != next_with_versions(last)) database_.fail_damaged("tasks without versions, or versions without a task");
    if (!there) break;
    if (rows.integer(1) == 0) names.push_back({next, proven_newest(next)});
    last = next;
  }
  return names;
}

/// All tasks: no index, which nobody seals, decides who goes back with the shared state.
std::vector<std::string> SqliteTaskRows::followers(const std::string&) const {
  return names_in(database_, "SELECT name FROM tasks");
}

std::vector<std::string> SqliteTaskRows::visible_names() const {
  return names_in(database_, "SELECT name FROM tasks WHERE removed_utc IS NULL");
}

std::optional<std::string> SqliteTaskRows::case_twin(std::string_view name) const {
  Statement twin(database_, "SELECT name FROM tasks WHERE name = ?1 COLLATE NOCASE AND name <> ?1");
  if (!twin.bind(name).step()) return {};
  return twin.text(0);
}

void SqliteTaskRows::show(std::string_view name) {
  Statement(database_,
            "INSERT INTO tasks (name) VALUES (?) ON CONFLICT (name) DO UPDATE SET removed_utc = NULL, seal = ''")
      .bind(name)
      .run();
}

void SqliteTaskRows::show_if_hidden_by_rollback(std::string_view name) {
  Statement(database_, "UPDATE tasks SET removed_utc = NULL, seal = '' WHERE name = ? AND removed_utc GLOB '*' || ?")
      .bind(name)
      .bind(kByRollback)
      .run();
}

bool SqliteTaskRows::hide(std::string_view name, HiddenBy by) {
  const std::string removed = removed_utc(by);
  Statement(database_, "UPDATE tasks SET removed_utc = ?, seal = '' WHERE name = ? AND removed_utc IS NULL")
      .bind(removed)
      .bind(name)
      .run();
  return changed_rows(database_);
}

bool SqliteTaskRows::erase(std::string_view name) {
  Statement(database_, "DELETE FROM tasks WHERE name = ?").bind(name).run();
  return changed_rows(database_);
}

// ---- versions ----

std::optional<VersionRow> SqliteTaskRows::last(std::string_view name) const {
  static const std::string sql = select_version("task = ? ORDER BY version DESC LIMIT 1");
  Statement row(database_, sql, kKept);
  return read_version(row.bind(name));
}

std::int64_t SqliteTaskRows::proven_newest(std::string_view name) const {
  const auto last = this->last(name);
  if (!last) {
    if (hidden(name)) database_.fail_damaged("a task without versions");
    return 0;
  }
  std::int64_t seen = last_alone(name);
  if (last->follows) {
    // The index leads from a version of the shared state to the tasks that follow it, so it is asked for each since.
    SharedVersion later = *last->follows;
    for (const std::int64_t end = SqliteSharedRows(database_).newest(later.name); later.version <= end; ++later.version)
      seen = std::max(seen, last_following(name, later));
  }
  if (seen != last->version) database_.fail_damaged("two indexes of versions differ");
  return last->version;
}

std::optional<VersionRow> SqliteTaskRows::version(std::string_view name, std::int64_t version) const {
  static const std::string sql = select_version("task = ? AND version = ?");
  Statement row(database_, sql, kKept);
  return read_version(row.bind(name).bind(version));
}

std::int64_t SqliteTaskRows::last_alone(std::string_view name) const {
  static const std::string sql =
      "SELECT max(version) FROM versions INDEXED BY versions_by_follows WHERE follows IS NULL AND follows_version IS "
      "NULL AND task = ?";
  Statement row(database_, sql, kKept);
  return row.bind(name).step() ? row.integer(0) : 0;
}

std::int64_t SqliteTaskRows::last_following(std::string_view name, const SharedVersion& follows) const {
  static const std::string sql =
      "SELECT max(version) FROM versions INDEXED BY versions_by_follows WHERE follows = ? AND follows_version = ? AND "
      "task = ?";
  Statement row(database_, sql, kKept);
  return row.bind(follows.name).bind(follows.version).bind(name).step() ? row.integer(0) : 0;
}

std::string SqliteTaskRows::next_with_versions(std::string_view name) const {
  static const std::string sql = "SELECT task FROM versions WHERE task > ? ORDER BY task LIMIT 1";
  Statement row(database_, sql, kKept);
  return row.bind(name).step() ? row.text(0) : "";
}

void SqliteTaskRows::insert(const TaskRecord& task, std::int64_t version, const std::optional<SharedVersion>& follows,
                            const StoredState& state) {
  const std::string created = task.created_utc.empty() ? utc_now() : task.created_utc;
  const std::string plugs = encode_plugs(task.plugs), metrics = canonical_json(task.metrics);
  Statement insert(database_,
                   "INSERT INTO versions (task, version, parent, created_utc, fingerprint, classes, plugs, metrics, "
                   "state_bytes, file_bytes, state, follows, follows_version) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)");
  insert.bind(task.name).bind(version).bind(version - 1).bind(created).bind(task.fingerprint);
  insert.bind(static_cast<std::int64_t>(task.labels.size())).bind(plugs).bind(metrics);
  insert.bind(tensor_bytes(task.numbers, Scope::kTask)).bind(state.bytes).bind(state.id);
  if (follows) {
    insert.bind(follows->name).bind(follows->version);
  } else {
    insert.bind_null().bind_null();
  }
  insert.run();
}

std::int64_t SqliteTaskRows::copy(std::string_view name, std::int64_t version, std::int64_t follows_version) {
  const std::int64_t next = newest(name) + 1;
  const std::string now = utc_now();
  Statement(database_,
            "INSERT INTO versions (task, version, parent, created_utc, fingerprint, classes, plugs, metrics, "
            "state_bytes, file_bytes, state, follows, follows_version) SELECT task, ?, version, ?, fingerprint, "
            "classes, plugs, metrics, state_bytes, file_bytes, state, follows, coalesce(nullif(?, 0), follows_version) "
            "FROM versions WHERE task = ? AND version = ?")
      .bind(next)
      .bind(now)
      .bind(follows_version)
      .bind(name)
      .bind(version)
      .run();
  return next;
}

std::vector<TaskSummary> SqliteTaskRows::newest_of_each(bool with_removed) const {
  Statement tags(database_, select_tags().c_str());
  Statement rows(database_,
                 select_summaries(fmt::format("{} AND (? OR t.removed_utc IS NULL)", kIsNewest).c_str()).c_str());
  rows.bind(std::int64_t{with_removed});
  return summaries_of(tags, rows, database_);
}

/// One by one, since a statement takes no more than 13 values (kSqliteLimits).
std::vector<TaskSummary> SqliteTaskRows::newest_of(const std::vector<std::string>& names) const {
  static const std::string tags_of = select_tags("WHERE task = ?");
  static const std::string newest =
      select_summaries(fmt::format("v.task = ? AND t.removed_utc IS NULL AND {}", kIsNewest).c_str());
  std::vector<TaskSummary> found;
  for (const std::string& name : std::set<std::string>(names.begin(), names.end())) {
    Statement tags(database_, tags_of, kKept), rows(database_, newest, kKept);
    tags.bind(name);
    rows.bind(name);
    std::ranges::move(summaries_of(tags, rows, database_), std::back_inserter(found));
  }
  return found;
}

std::vector<TaskSummary> SqliteTaskRows::all_of(std::string_view name) const {
  Statement tags(database_, select_tags("WHERE task = ?").c_str());
  Statement rows(database_, select_summaries("v.task = ?").c_str());
  tags.bind(name);
  rows.bind(name);
  return summaries_of(tags, rows, database_);
}

// ---- tags ----

std::optional<std::int64_t> SqliteTaskRows::tagged(std::string_view name, std::string_view tag) const {
  static const std::string sql =
      fmt::format("SELECT version, {} FROM tags WHERE task = ? AND tag = ?", seal_holds("tags"));
  static const std::string again =
      "SELECT 1 FROM tags INDEXED BY tags_without_case WHERE task = ?1 AND tag = ?2 COLLATE NOCASE AND tag = ?2";
  Statement row(database_, sql, kKept), other(database_, again, kKept);
  const bool there = row.bind(name).bind(tag).step();
  if (there != other.bind(name).bind(tag).step()) database_.fail_damaged("two indexes of tags differ");
  if (!there) return {};
  row.require_seal(1);
  return row.integer(0);
}

std::optional<std::string> SqliteTaskRows::tag_twin(std::string_view name, std::string_view tag) const {
  Statement twin(database_, "SELECT tag FROM tags WHERE task = ?1 AND tag = ?2 COLLATE NOCASE AND tag <> ?2");
  if (!twin.bind(name).bind(tag).step()) return {};
  return twin.text(0);
}

void SqliteTaskRows::set_tag(std::string_view name, std::string_view tag, std::int64_t version) {
  const std::string now = utc_now();
  Statement(database_,
            "INSERT INTO tags (task, tag, version, created_utc) VALUES (?, ?, ?, ?) ON CONFLICT (task, tag) DO UPDATE "
            "SET version = excluded.version, created_utc = excluded.created_utc, seal = ''")
      .bind(name)
      .bind(tag)
      .bind(version)
      .bind(now)
      .run();
}

bool SqliteTaskRows::erase_tag(std::string_view name, std::string_view tag) {
  Statement(database_, "DELETE FROM tags WHERE task = ? AND tag = ?").bind(name).bind(tag).run();
  return changed_rows(database_);
}

}  // namespace recast
