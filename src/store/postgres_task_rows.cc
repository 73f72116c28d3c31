#include <fmt/format.h>

#include "postgres_rows.h"
#include "recast/base/utc.h"
#include "store_errors.h"

namespace recast {
namespace {

/// All columns of a row that its seal covers, in the order of the table; the seal comes next.
constexpr const char* kTaskColumns = "fingerprint, name, removed_utc, seal";
constexpr int kTaskWidth = 3;
constexpr const char* kVersionColumns =
    "fingerprint, task, version, parent, created_utc, follows, follows_version, classes, plugs, metrics, state_bytes, "
    "file_bytes, state, seal";
constexpr int kVersionWidth = 13;
constexpr const char* kTagColumns = "fingerprint, task, tag, version, created_utc, seal";
constexpr int kTagWidth = 5;

/// Of a row `v` of `versions`.
constexpr const char* kIsNewest =
    "v.version = (SELECT max(version) FROM recast.versions WHERE fingerprint = $1 AND task = v.task)";

/// "a, b" of `table` as "t.a, t.b".
std::string of_table(std::string_view table, std::string_view columns) {
  std::string named = fmt::format("{}.", table);
  for (const char c : columns) {
    named += c;
    if (c == ' ') named += fmt::format("{}.", table);
  }
  return named;
}

/// Everything in a row of `versions` that a copy repeats.
struct WholeVersion {
  VersionRow row;
  std::int64_t classes, state_bytes, file_bytes;
  std::string plugs, metrics;
};

std::optional<WholeVersion> read_version(PostgresRows row) {
  if (!row.step()) return {};
  row.require_seal("versions", 0, kVersionWidth);
  WholeVersion found{{row.integer(2), row.integer(3), row.integer(12), row.text(4), row.text(0), {}},
                     row.integer(7),
                     row.integer(10),
                     row.integer(11),
                     row.text(8),
                     row.text(9)};
  if (!row.is_null(5)) found.row.follows = SharedVersion{row.text(5), row.integer(6)};
  return found;
}

std::optional<WholeVersion> find_version(const Postgres& database, std::string_view fingerprint, std::string_view name,
                                         std::int64_t version) {
  static const std::string sql = fmt::format(
      "SELECT {} FROM recast.versions WHERE fingerprint = $1 AND task = $2 AND version = $3", kVersionColumns);
  return read_version(database.query(sql, PostgresValues().add(fingerprint).add(name).add(version)));
}

void write_version(const Postgres& database, std::string_view name, const WholeVersion& version) {
  static const std::string sql = fmt::format(
      "INSERT INTO recast.versions ({}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
      kVersionColumns);
  const VersionRow& row = version.row;
  PostgresValues values;
  values.add(row.fingerprint).add(name).add(row.version).add(row.parent);
  values.add(row.created_utc);
  if (row.follows) {
    values.add(row.follows->name).add(row.follows->version);
  } else {
    values.add_null().add_null();
  }
  values.add(version.classes).add(version.plugs).add(version.metrics);
  values.add(version.state_bytes).add(version.file_bytes).add(row.state).add_seal("versions");
  database.query(sql, values);
}

std::optional<VersionRow> row_of(const std::optional<WholeVersion>& version) {
  if (!version) return {};
  return version->row;
}

/// The values of a row of `tasks`; `removed`: empty for none.
PostgresValues task_values(std::string_view fingerprint, std::string_view name, std::string_view removed) {
  PostgresValues values;
  values.add(fingerprint).add(name);
  if (removed.empty()) {
    values.add_null();
  } else {
    values.add(removed);
  }
  return std::move(values.add_seal("tasks"));
}

}  // namespace

// ---- tasks ----

std::optional<bool> PostgresTaskRows::hidden(std::string_view name) const {
  static const std::string sql =
      fmt::format("SELECT {} FROM recast.tasks WHERE fingerprint = $1 AND name = $2", kTaskColumns);
  PostgresRows row = database_.query(sql, ours().add(name));
  if (!row.step()) return {};
  row.require_seal("tasks", 0, kTaskWidth);
  return !row.is_null(2);
}

std::optional<std::string> PostgresTaskRows::other_backbone(std::string_view name) const {
  PostgresRows row =
      database_.query("SELECT fingerprint FROM recast.tasks WHERE name = $2 AND fingerprint <> $1 ORDER BY 1 LIMIT 1",
                      ours().add(name));
  if (!row.step()) return {};
  return row.text(0);
}

std::vector<TaskName> PostgresTaskRows::visible_after(std::string_view name, std::int64_t limit) const {
  static const std::string sql = fmt::format(
      "SELECT {}, {} FROM recast.tasks t LEFT JOIN LATERAL (SELECT * FROM recast.versions WHERE fingerprint = "
      "t.fingerprint AND task = t.name ORDER BY version DESC LIMIT 1) v ON true WHERE t.fingerprint = $1 AND t.name > "
      "$2 AND t.removed_utc IS NULL ORDER BY t.name LIMIT $3",
      of_table("t", kTaskColumns), of_table("v", kVersionColumns));
  constexpr int kVersion = kTaskWidth + 1;
  std::vector<TaskName> names;
  PostgresRows rows = database_.query(sql, ours().add(name).add(limit));
  while (rows.step()) {
    rows.require_seal("tasks", 0, kTaskWidth);
    if (rows.is_null(kVersion)) fail_damaged_store(database_.shown(), "a task without versions");
    rows.require_seal("versions", kVersion, kVersionWidth);
    names.push_back({rows.text(1), rows.integer(kVersion + 2)});
  }
  return names;
}

std::vector<std::string> PostgresTaskRows::names_in(const std::string& sql, const PostgresValues& values) const {
  std::vector<std::string> names;
  PostgresRows rows = database_.query(sql, values);
  while (rows.step()) names.push_back(rows.text(0));
  return names;
}

std::vector<std::string> PostgresTaskRows::followers(const std::string& shared) const {
  return names_in("SELECT DISTINCT task FROM recast.versions WHERE fingerprint = $1 AND follows = $2 ORDER BY task",
                  ours().add(shared));
}

std::vector<std::string> PostgresTaskRows::visible_names() const {
  return names_in("SELECT name FROM recast.tasks WHERE fingerprint = $1 AND removed_utc IS NULL ORDER BY name", ours());
}

std::optional<std::string> PostgresTaskRows::case_twin(std::string_view name) const {
  PostgresRows twin = database_.query(
      "SELECT name FROM recast.tasks WHERE fingerprint = $1 AND lower(name) = lower($2 COLLATE \"C\") AND name <> $2",
      ours().add(name));
  if (!twin.step()) return {};
  return twin.text(0);
}

void PostgresTaskRows::show(std::string_view name) {
  static const std::string sql = fmt::format(
      "INSERT INTO recast.tasks ({}) VALUES ($1, $2, $3, $4) ON CONFLICT (fingerprint, name) DO UPDATE SET "
      "removed_utc = excluded.removed_utc, seal = excluded.seal",
      kTaskColumns);
  database_.query(sql, task_values(fingerprint_, name, ""));
}

void PostgresTaskRows::show_if_hidden_by_rollback(std::string_view name) {
  PostgresRows row =
      database_.query("SELECT removed_utc FROM recast.tasks WHERE fingerprint = $1 AND name = $2", ours().add(name));
  if (row.step() && row.text(0).ends_with(kByRollback)) show(name);
}

bool PostgresTaskRows::hide(std::string_view name, HiddenBy by) {
  return database_
             .query(
                 "UPDATE recast.tasks SET removed_utc = $3, seal = $4 WHERE fingerprint = $1 AND name = $2 AND "
                 "removed_utc IS NULL",
                 task_values(fingerprint_, name, removed_utc(by)))
             .changed() > 0;
}

bool PostgresTaskRows::erase(std::string_view name) {
  return database_.query("DELETE FROM recast.tasks WHERE fingerprint = $1 AND name = $2", ours().add(name)).changed() >
         0;
}

// ---- versions ----

std::optional<VersionRow> PostgresTaskRows::last(std::string_view name) const {
  static const std::string sql =
      fmt::format("SELECT {} FROM recast.versions WHERE fingerprint = $1 AND task = $2 ORDER BY version DESC LIMIT 1",
                  kVersionColumns);
  return row_of(read_version(database_.query(sql, ours().add(name))));
}

std::optional<VersionRow> PostgresTaskRows::version(std::string_view name, std::int64_t version) const {
  return row_of(find_version(database_, fingerprint_, name, version));
}

void PostgresTaskRows::insert(const TaskRecord& task, std::int64_t version, const std::optional<SharedVersion>& follows,
                              const StoredState& state) {
  const std::string created = task.created_utc.empty() ? utc_now() : task.created_utc;
  write_version(database_, task.name,
                {{version, version - 1, state.id, created, fingerprint_, follows},
                 static_cast<std::int64_t>(task.labels.size()),
                 tensor_bytes(task.numbers, Scope::kTask),
                 state.bytes,
                 encode_plugs(task.plugs),
                 canonical_json(task.metrics)});
}

std::int64_t PostgresTaskRows::copy(std::string_view name, std::int64_t version, std::int64_t follows_version) {
  auto whole = find_version(database_, fingerprint_, name, version);
  RECAST_ASSERT(whole);
  whole->row.parent = version;
  whole->row.version = newest(name) + 1;
  whole->row.created_utc = utc_now();
  if (whole->row.follows && follows_version != 0) whole->row.follows->version = follows_version;
  write_version(database_, name, *whole);
  return whole->row.version;
}

std::vector<TaskSummary> PostgresTaskRows::summaries(const std::string& condition, const PostgresValues& values,
                                                     const std::string& tags_condition) const {
  PostgresRows tags = database_.query(
      fmt::format("SELECT task, version, tag, {} FROM recast.tags WHERE fingerprint = $1 AND {} ORDER BY task, tag",
                  kTagColumns, tags_condition),
      values);
  PostgresRows rows = database_.query(
      fmt::format("SELECT {}, (SELECT count(*) FROM recast.versions WHERE fingerprint = $1 AND task = v.task), {}, {} "
                  "FROM recast.versions v JOIN recast.tasks t ON t.fingerprint = v.fingerprint AND t.name = v.task "
                  "WHERE v.fingerprint = $1 AND {} ORDER BY v.task, v.version",
                  kSummaryColumns, of_table("v", kVersionColumns), of_table("t", kTaskColumns), condition),
      values);
  return read_summaries(rows, read_tags(tags, [](const PostgresRows& row) { row.require_seal("tags", 3, kTagWidth); }),
                        database_.shown(), [](const PostgresRows& row) {
                          row.require_seal("versions", kAfterSummary, kVersionWidth);
                          row.require_seal("tasks", kAfterSummary + kVersionWidth + 1, kTaskWidth);
                        });
}

std::vector<TaskSummary> PostgresTaskRows::newest_of_each(bool with_removed) const {
  return summaries(fmt::format("{}{}", kIsNewest, with_removed ? "" : " AND t.removed_utc IS NULL"), ours(), "true");
}

std::vector<TaskSummary> PostgresTaskRows::newest_of(const std::vector<std::string>& names) const {
  PostgresValues values = ours();
  std::string places;
  for (std::size_t i = 0; i < names.size(); ++i) {
    values.add(names[i]);
    places += fmt::format("{}${}", i == 0 ? "" : ",", i + 2);
  }
  return summaries(fmt::format("v.task IN ({}) AND {} AND t.removed_utc IS NULL", places, kIsNewest), values,
                   fmt::format("task IN ({})", places));
}

std::vector<TaskSummary> PostgresTaskRows::all_of(std::string_view name) const {
  return summaries("v.task = $2", ours().add(name), "task = $2");
}

// ---- tags ----

std::optional<std::int64_t> PostgresTaskRows::tagged(std::string_view name, std::string_view tag) const {
  static const std::string sql =
      fmt::format("SELECT {} FROM recast.tags WHERE fingerprint = $1 AND task = $2 AND tag = $3", kTagColumns);
  PostgresRows row = database_.query(sql, ours().add(name).add(tag));
  if (!row.step()) return {};
  row.require_seal("tags", 0, kTagWidth);
  return row.integer(3);
}

std::optional<std::string> PostgresTaskRows::tag_twin(std::string_view name, std::string_view tag) const {
  PostgresRows twin = database_.query(
      "SELECT tag FROM recast.tags WHERE fingerprint = $1 AND task = $2 AND lower(tag) = lower($3 COLLATE \"C\") AND "
      "tag <> $3",
      ours().add(name).add(tag));
  if (!twin.step()) return {};
  return twin.text(0);
}

void PostgresTaskRows::set_tag(std::string_view name, std::string_view tag, std::int64_t version) {
  static const std::string sql = fmt::format(
      "INSERT INTO recast.tags ({}) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (fingerprint, task, tag) DO UPDATE SET "
      "version = excluded.version, created_utc = excluded.created_utc, seal = excluded.seal",
      kTagColumns);
  database_.query(sql, ours().add(name).add(tag).add(version).add(utc_now()).add_seal("tags"));
}

bool PostgresTaskRows::erase_tag(std::string_view name, std::string_view tag) {
  return database_
             .query("DELETE FROM recast.tags WHERE fingerprint = $1 AND task = $2 AND tag = $3",
                    ours().add(name).add(tag))
             .changed() > 0;
}

}  // namespace recast
