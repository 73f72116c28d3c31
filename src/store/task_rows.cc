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

std::int64_t TaskRows::newest(std::string_view name) const {
  Statement row(database_, "SELECT max(version) FROM versions WHERE task = ?");
  return row.bind(name).step() ? row.integer(0) : 0;
}

std::int64_t TaskRows::newest_visible(std::string_view name) const {
  Statement task(database_,
                 fmt::format("SELECT removed_utc, {} FROM tasks WHERE name = ?", seal_holds("tasks")).c_str());
  if (!task.bind(name).step()) return 0;
  task.require_seal(1);
  return task.is_null(0) ? newest(name) : 0;
}

std::optional<VersionRow> TaskRows::version(std::string_view name, std::int64_t version) const {
  Statement row(database_,
                fmt::format("SELECT version, parent, state, created_utc, fingerprint, follows, follows_version, {} "
                            "FROM versions WHERE task = ? AND version = ?",
                            seal_holds("versions"))
                    .c_str());
  if (!row.bind(name).bind(version).step()) return {};
  row.require_seal(7);
  VersionRow found{row.integer(0), row.integer(1), row.integer(2), row.text(3), row.text(4), {}};
  if (!row.is_null(5)) found.follows = SharedVersion{row.text(5), row.integer(6)};
  return found;
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
  Statement row(database_,
                fmt::format("SELECT version, {} FROM tags WHERE task = ? AND tag = ?", seal_holds("tags")).c_str());
  if (!row.bind(name).bind(tag).step()) return {};
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
