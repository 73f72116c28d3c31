#include "task_rows.h"

#include <fmt/format.h>

#include <map>
#include <utility>

#include "plugs_json.h"
#include "recast/base/utc.h"
#include "recast/format/canonical_json.h"
#include "seals.h"

namespace recast {
namespace {

/// Behind the time in `removed_utc` where a rollback of the shared state has hidden the task, and not a person.
constexpr std::string_view kByRollback = " rollback";

/// Task and version -> tags of that version, sorted.
using Tags = std::map<std::pair<std::string, std::int64_t>, std::vector<std::string>>;

std::vector<std::string> names_in(const Database& database, const char* sql) {
  std::vector<std::string> names;
  for (Statement rows(database, sql); rows.step();) names.push_back(rows.text(0));
  return names;
}

/// Statements that serving runs are kept; they are made of constants alone.
constexpr Statement::Prepared kKept = Statement::Prepared::kKept;

bool changed_rows(const Database& database) { return sqlite3_changes(database.handle()) > 0; }

std::int64_t tensor_bytes(const Numbers& numbers, Scope scope) {
  std::int64_t bytes = 0;
  for (const auto& [plug, scopes] : numbers.plugs()) {
    for (const auto& [name, number] : numbers.at(plug, scope)) {
      if (const auto* tensor = std::get_if<at::Tensor>(&number)) bytes += static_cast<std::int64_t>(tensor->nbytes());
    }
  }
  return bytes;
}

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

Tags read_tags(Statement& rows) {
  Tags tags;
  while (rows.step()) {
    rows.require_seal(3);
    tags[{rows.text(0), rows.integer(1)}].push_back(rows.text(2));
  }
  return tags;
}

/// Columns as read_summaries() takes them.
std::string select_summaries(const char* condition) {
  return fmt::format(
      "SELECT v.task, v.version, (SELECT count(*) FROM versions WHERE task = v.task), t.removed_utc, v.state_bytes, "
      "v.file_bytes, v.created_utc, v.classes, v.plugs, v.metrics, {}, {} FROM versions v JOIN tasks t ON t.name = "
      "v.task WHERE {} ORDER BY v.task, v.version",
      seal_holds("versions", "v."), seal_holds("tasks", "t."), condition);
}

std::vector<TaskSummary> read_summaries(Statement& rows, Tags tags, const std::string& origin) {
  std::vector<TaskSummary> list;
  while (rows.step()) {
    rows.require_seal(10);
    rows.require_seal(11);
    list.push_back({.name = rows.text(0),
                    .version = rows.integer(1),
                    .versions = rows.integer(2),
                    .tags = {},
                    .removed = !rows.is_null(3),
                    .state_bytes = rows.integer(4),
                    .file_bytes = rows.integer(5),
                    .created_utc = rows.text(6),
                    .classes = rows.integer(7),
                    .plugs = decode_plugs(rows.text(8), origin),
                    .metrics = parse_json(rows.text(9), origin)});
    if (const auto found = tags.find({list.back().name, list.back().version}); found != tags.end())
      list.back().tags = std::move(found->second);
  }
  return list;
}

}  // namespace

// ---- tasks ----

std::optional<bool> TaskRows::hidden(std::string_view name) const {
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

void TaskRows::visit_after(std::string_view name, const std::function<bool(const std::string&, bool)>& take) const {
  static const std::string sql = fmt::format(
      "SELECT name, removed_utc IS NOT NULL, {} FROM tasks WHERE name > ? ORDER BY name", seal_holds("tasks"));
  std::string last(name);
  Statement rows(database_, sql, kKept);
  for (rows.bind(name);;) {
    const bool there = rows.step();
    if (there) rows.require_seal(2);
    const std::string next = there ? rows.text(0) : "";
    if (next != next_with_versions(last)) database_.fail_damaged("tasks without versions, or versions without a task");
    if (!there || !take(next, rows.integer(1) == 1)) return;
    last = next;
  }
}

std::vector<std::string> TaskRows::names() const { return names_in(database_, "SELECT name FROM tasks"); }

std::vector<std::string> TaskRows::visible_names() const {
  return names_in(database_, "SELECT name FROM tasks WHERE removed_utc IS NULL");
}

std::optional<std::string> TaskRows::case_twin(std::string_view name) const {
  Statement twin(database_, "SELECT name FROM tasks WHERE name = ?1 COLLATE NOCASE AND name <> ?1");
  if (!twin.bind(name).step()) return {};
  return twin.text(0);
}

void TaskRows::show(std::string_view name) {
  Statement(database_,
            "INSERT INTO tasks (name) VALUES (?) ON CONFLICT (name) DO UPDATE SET removed_utc = NULL, seal = ''")
      .bind(name)
      .run();
}

void TaskRows::show_if_hidden_by_rollback(std::string_view name) {
  Statement(database_, "UPDATE tasks SET removed_utc = NULL, seal = '' WHERE name = ? AND removed_utc GLOB '*' || ?")
      .bind(name)
      .bind(kByRollback)
      .run();
}

bool TaskRows::hide(std::string_view name, HiddenBy by) {
  std::string removed = utc_now();
  if (by == HiddenBy::kRollback) removed += kByRollback;
  Statement(database_, "UPDATE tasks SET removed_utc = ?, seal = '' WHERE name = ? AND removed_utc IS NULL")
      .bind(removed)
      .bind(name)
      .run();
  return changed_rows(database_);
}

bool TaskRows::erase(std::string_view name) {
  Statement(database_, "DELETE FROM tasks WHERE name = ?").bind(name).run();
  return changed_rows(database_);
}

// ---- versions ----

std::optional<VersionRow> TaskRows::last(std::string_view name) const {
  static const std::string sql = select_version("task = ? ORDER BY version DESC LIMIT 1");
  Statement row(database_, sql, kKept);
  return read_version(row.bind(name));
}

std::int64_t TaskRows::newest(std::string_view name) const {
  const auto row = last(name);
  return row ? row->version : 0;
}

std::optional<VersionRow> TaskRows::version(std::string_view name, std::int64_t version) const {
  static const std::string sql = select_version("task = ? AND version = ?");
  Statement row(database_, sql, kKept);
  return read_version(row.bind(name).bind(version));
}

std::int64_t TaskRows::last_alone(std::string_view name) const {
  static const std::string sql =
      "SELECT max(version) FROM versions INDEXED BY versions_by_follows "
      "WHERE follows IS NULL AND follows_version IS NULL AND task = ?";
  Statement row(database_, sql, kKept);
  return row.bind(name).step() ? row.integer(0) : 0;
}

std::int64_t TaskRows::last_following(std::string_view name, const SharedVersion& follows) const {
  static const std::string sql =
      "SELECT max(version) FROM versions INDEXED BY versions_by_follows "
      "WHERE follows = ? AND follows_version = ? AND task = ?";
  Statement row(database_, sql, kKept);
  return row.bind(follows.name).bind(follows.version).bind(name).step() ? row.integer(0) : 0;
}

std::string TaskRows::next_with_versions(std::string_view name) const {
  static const std::string sql = "SELECT task FROM versions WHERE task > ? ORDER BY task LIMIT 1";
  Statement row(database_, sql, kKept);
  return row.bind(name).step() ? row.text(0) : "";
}

void TaskRows::insert(const TaskRecord& task, std::int64_t version, const std::optional<SharedVersion>& follows,
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

std::int64_t TaskRows::copy(std::string_view name, std::int64_t version, std::int64_t follows_version) {
  const std::int64_t next = newest(name) + 1;
  const std::string now = utc_now();
  Statement(
      database_,
      "INSERT INTO versions (task, version, parent, created_utc, fingerprint, classes, plugs, metrics, "
      "state_bytes, file_bytes, state, follows, follows_version) "
      "SELECT task, ?, version, ?, fingerprint, classes, plugs, metrics, state_bytes, file_bytes, state, follows, "
      "coalesce(nullif(?, 0), follows_version) FROM versions WHERE task = ? AND version = ?")
      .bind(next)
      .bind(now)
      .bind(follows_version)
      .bind(name)
      .bind(version)
      .run();
  return next;
}

std::vector<TaskSummary> TaskRows::newest_of_each(bool with_removed) const {
  Statement tags(database_, select_tags().c_str());
  Statement rows(database_, select_summaries("v.version = (SELECT max(version) FROM versions WHERE task = v.task) AND "
                                             "(? OR t.removed_utc IS NULL)")
                                .c_str());
  rows.bind(std::int64_t{with_removed});
  return read_summaries(rows, read_tags(tags), database_.shown());
}

std::vector<TaskSummary> TaskRows::all_of(std::string_view name) const {
  Statement tags(database_, select_tags("WHERE task = ?").c_str());
  Statement rows(database_, select_summaries("v.task = ?").c_str());
  tags.bind(name);
  rows.bind(name);
  return read_summaries(rows, read_tags(tags), database_.shown());
}

// ---- tags ----

std::optional<std::int64_t> TaskRows::tagged(std::string_view name, std::string_view tag) const {
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

std::optional<std::string> TaskRows::tag_twin(std::string_view name, std::string_view tag) const {
  Statement twin(database_, "SELECT tag FROM tags WHERE task = ?1 AND tag = ?2 COLLATE NOCASE AND tag <> ?2");
  if (!twin.bind(name).bind(tag).step()) return {};
  return twin.text(0);
}

void TaskRows::set_tag(std::string_view name, std::string_view tag, std::int64_t version) {
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

bool TaskRows::erase_tag(std::string_view name, std::string_view tag) {
  Statement(database_, "DELETE FROM tags WHERE task = ? AND tag = ?").bind(name).bind(tag).run();
  return changed_rows(database_);
}

}  // namespace recast
