#include <c10/util/Exception.h>

#include <cstdlib>
#include <ctime>
#include <functional>
#include <mutex>
#include <new>
#include <set>

#include "disk.h"
#include "plugs_json.h"
#include "recast/base/error.h"
#include "recast/base/log.h"
#include "recast/format/canonical_json.h"
#include "recast/format/printable.h"
#include "recast/store/task_store.h"
#include "schema.h"
#include "seals.h"
#include "sqlite.h"
#include "state_storage.h"

namespace recast {
namespace {

using Access = Database::Access;

/// Behind the time in `removed_utc` where a rollback of the shared state has hidden the task, and not a person.
constexpr std::string_view kByRollback = " rollback";

std::string now_utc() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char text[32];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

/// Inside a handler: whatever was thrown, as an Error.
[[noreturn]] void rethrow_as_error(const std::string& shown) {
  try {
    throw;
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    fail(Code::kExhausted, "[store] {}: not enough memory", shown);
  } catch (const c10::Error& error) {
    const std::string text = error.what_without_backtrace();
    const bool memory = text.find("allocate memory") != text.npos;
    fail(memory ? Code::kExhausted : Code::kInternal, "[store] {}: {}", shown,
         printable(text.substr(0, text.find('\n')), 200));
  } catch (const std::filesystem::filesystem_error& error) {
    fail(Code::kUnavailable, "[store] {}: {}", printable(error.path1().string(), 4096), error.code().message());
  }
}

/// SQLite's locks and its shared memory need one machine: others would not see them, and both would write.
void refuse_network(const std::filesystem::path& directory) {
  const char* allowed = std::getenv("RECAST_NETWORK_STORE");
  if (allowed != nullptr && std::string_view(allowed) == "allow") return;
  const auto kind = network_file_system(directory);
  if (!kind) return;
  fail(Code::kUnsupported,
       "[store] {}: lies on a network file system ({}), where two machines could write at once; use a local disk, or "
       "set RECAST_NETWORK_STORE=allow where no other machine ever opens it",
       printable(directory.string(), 4096), *kind);
}

/// What is packed before the store is locked: state files carry what does not change when a version is copied.
TaskRecord stored_part(const TaskRecord& task, const std::string& name, Scope scope) {
  TaskRecord part = task;
  part.name = name;
  part.numbers = task.numbers.only(scope);
  part.version = part.parent = 0;
  part.follows.reset();
  part.created_utc.clear();
  return part;
}

PackedState pack_shared(const TaskRecord& task, const Numbers& shared, const std::string& name) {
  TaskRecord record;
  record.fingerprint = task.fingerprint;
  record.plugs = task.plugs;
  record.numbers = shared;
  return pack_state(stored_part(record, name, Scope::kShared));
}

std::int64_t tensor_bytes(const Numbers& numbers, Scope scope) {
  std::int64_t bytes = 0;
  for (const auto& [plug, scopes] : numbers.plugs()) {
    for (const auto& [name, number] : numbers.at(plug, scope)) {
      if (const auto* tensor = std::get_if<at::Tensor>(&number)) bytes += static_cast<std::int64_t>(tensor->nbytes());
    }
  }
  return bytes;
}

void add_numbers(Numbers& numbers, const Numbers& more, Scope scope) {
  for (const auto& [plug, scopes] : more.plugs()) {
    if (const State& state = more.at(plug, scope); !state.empty()) numbers.at(plug, scope) = state;
  }
}

/// What a version holds beside its state: one row of the table `versions`.
struct VersionRow {
  std::int64_t version, parent, state;
  std::string created_utc, fingerprint;
  std::optional<SharedVersion> follows;
};

/// The same for shared states.
struct SharedRow {
  std::int64_t parent, state;
};

/// A transaction that changes the store. Without commit() nothing has changed.
class Change {
 public:
  explicit Change(Database& database) : database_(database), transaction_(database, Access::kWrite) {
    require_newest_schema(database);
  }
  void commit() {
    seal_rows(database_);
    transaction_.commit();
  }

 private:
  Database& database_;
  Transaction transaction_;
};

class SqliteStore final : public TaskStore {
 public:
  SqliteStore(Database database, const std::filesystem::path& directory, std::string fingerprint, bool read_only)
      : fingerprint_(std::move(fingerprint)),
        read_only_(read_only),
        database_(std::move(database)),
        states_(database_, directory / "blobs") {}

  std::int64_t commit(const TaskRecord& task, const Numbers* shared, const std::string& shared_name) override;
  std::optional<TaskRecord> load(std::string_view name, std::int64_t version) const override;
  std::vector<TaskSummary> list(bool with_removed) const override;
  std::vector<TaskSummary> log(std::string_view name) const override;
  void remove(std::string_view name) override;
  void purge(std::string_view name) override;
  std::int64_t tag(std::string_view name, std::int64_t version, std::string_view tag, bool move) override;
  void untag(std::string_view name, std::string_view tag) override;
  std::optional<std::int64_t> tagged(std::string_view name, std::string_view tag) const override;
  std::int64_t rollback(std::string_view name, std::int64_t version) override;
  std::int64_t rollback_shared(const std::string& name, std::int64_t version) override;
  std::optional<Numbers> shared(const std::string& name) const override;
  std::int64_t collect_garbage() override;

 private:
  void require_writable() const;
  void require_same_backbone(const std::string& what, const std::string& name, const std::string& fingerprint) const;
  void refuse_case_twin(const std::string& name) const;
  [[noreturn]] void not_found(std::string_view name) const;

  std::int64_t newest(std::string_view name) const;
  std::int64_t newest_visible(std::string_view name) const;
  std::optional<VersionRow> row(std::string_view name, std::int64_t version) const;
  std::vector<std::string> names(const char* sql) const;
  using Bind = std::function<void(Statement&)>;
  std::vector<TaskSummary> summaries(const char* condition, const Bind& bind) const;
  std::int64_t require_version(std::string_view name, std::int64_t version) const;
  void insert_version(const TaskRecord& task, std::int64_t version, const std::optional<SharedVersion>& follows,
                      const PackedState& packed);
  std::int64_t copy_version(std::string_view name, std::int64_t version, std::int64_t follows_version);
  void show(std::string_view name);
  bool hide(std::string_view name, std::string_view why = {});
  void finish_purge(std::string_view name) noexcept;

  std::vector<std::string> tags_of(const std::string& name, std::int64_t version) const;
  std::optional<std::int64_t> tagged_inside(std::string_view name, std::string_view tag) const;

  std::int64_t newest_shared(const std::string& name) const;
  SharedRow shared_row(const std::string& name, std::int64_t version) const;
  SharedVersion add_shared(const TaskRecord& task, const std::string& name, const PackedState& packed);
  SharedVersion follow(const std::string& name) const;
  Numbers shared_numbers(const SharedVersion& version) const;
  std::set<std::int64_t> lineage(const std::string& name, std::int64_t version) const;
  void take_along(const std::string& task, const SharedVersion& now, const std::set<std::int64_t>& lineage);

  // Constant after construction.
  const std::string fingerprint_;
  const bool read_only_;
  // Guarded by mutex_.
  mutable std::mutex mutex_;
  mutable Database database_;
  StateStorage states_;
};

// ---- checks ----

void SqliteStore::require_writable() const {
  if (read_only_) {
    fail(Code::kUnavailable, "[store] {}: was opened for reading only; open it for writing", database_.shown());
  }
}

void SqliteStore::require_same_backbone(const std::string& what, const std::string& name,
                                        const std::string& fingerprint) const {
  if (fingerprint == fingerprint_) return;
  fail(Code::kShapeMismatch,
       "[store] {} '{}' belongs to another backbone: its fingerprint is {}, the model directory's is {}; use the model "
       "directory that it was learned in, or learn it again",
       what, printable(name), printable(fingerprint), fingerprint_);
}

void SqliteStore::refuse_case_twin(const std::string& name) const {
  Statement twin(database_, "SELECT name FROM tasks WHERE name = ?1 COLLATE NOCASE AND name <> ?1");
  if (!twin.bind(name).step()) return;
  fail(Code::kAlreadyExists,
       "[store] '{}' differs from the task '{}' in upper and lower case only; choose another name", name, twin.text(0));
}

void SqliteStore::not_found(std::string_view name) const {
  const std::string near = nearest(name, names("SELECT name FROM tasks WHERE removed_utc IS NULL"));
  fail(Code::kNotFound, "[store] no task '{}'{}", printable(name),
       near.empty() ? "; 'tasks list' shows those that there are" : ", did you mean '" + near + "'?");
}

// ---- rows of tasks ----

std::vector<std::string> SqliteStore::names(const char* sql) const {
  std::vector<std::string> names;
  for (Statement rows(database_, sql); rows.step();) names.push_back(rows.text(0));
  return names;
}

std::int64_t SqliteStore::newest(std::string_view name) const {
  Statement row(database_, "SELECT max(version) FROM versions WHERE task = ?");
  return row.bind(name).step() ? row.integer(0) : 0;
}

std::int64_t SqliteStore::newest_visible(std::string_view name) const {
  Statement task(database_,
                 fmt::format("SELECT removed_utc, {} FROM tasks WHERE name = ?", seal_holds("tasks")).c_str());
  if (!task.bind(name).step()) return 0;
  task.require_seal(1);
  return task.is_null(0) ? newest(name) : 0;
}

std::optional<VersionRow> SqliteStore::row(std::string_view name, std::int64_t version) const {
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

void SqliteStore::insert_version(const TaskRecord& task, std::int64_t version,
                                 const std::optional<SharedVersion>& follows, const PackedState& packed) {
  const std::int64_t state = states_.write(packed);
  const std::string created = task.created_utc.empty() ? now_utc() : task.created_utc;
  const std::string plugs = encode_plugs(task.plugs), metrics = canonical_json(task.metrics);
  Statement insert(database_,
                   "INSERT INTO versions (task, version, parent, created_utc, fingerprint, classes, plugs, metrics, "
                   "state_bytes, file_bytes, state, follows, follows_version) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)");
  insert.bind(task.name).bind(version).bind(version - 1).bind(created).bind(task.fingerprint);
  insert.bind(static_cast<std::int64_t>(task.labels.size())).bind(plugs).bind(metrics);
  insert.bind(tensor_bytes(task.numbers, Scope::kTask)).bind(packed.stored_bytes()).bind(state);
  if (follows) {
    insert.bind(follows->name).bind(follows->version);
  } else {
    insert.bind_null().bind_null();
  }
  insert.run();
}

/// follows_version 0: as the version copied.
std::int64_t SqliteStore::copy_version(std::string_view name, std::int64_t version, std::int64_t follows_version) {
  const std::int64_t next = newest(name) + 1;
  const std::string now = now_utc();
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

void SqliteStore::show(std::string_view name) {
  Statement(database_,
            "INSERT INTO tasks (name) VALUES (?) ON CONFLICT (name) DO UPDATE SET removed_utc = NULL, seal = ''")
      .bind(name)
      .run();
}

bool SqliteStore::hide(std::string_view name, std::string_view why) {
  const std::string now = now_utc().append(why);
  Statement(database_, "UPDATE tasks SET removed_utc = ?, seal = '' WHERE name = ? AND removed_utc IS NULL")
      .bind(now)
      .bind(name)
      .run();
  return sqlite3_changes(database_.handle()) > 0;
}

/// The number of a version that there is; 0: the newest.
std::int64_t SqliteStore::require_version(std::string_view name, std::int64_t version) const {
  const std::int64_t last = newest(name);
  if (last == 0) not_found(name);
  if (version >= 0 && version <= last) return version == 0 ? last : version;
  fail(Code::kNotFound, "[store] the task '{}' has no version {}; it has 1 to {}", printable(name), version, last);
}

// ---- tags ----

std::vector<std::string> SqliteStore::tags_of(const std::string& name, std::int64_t version) const {
  std::vector<std::string> tags;
  Statement rows(
      database_,
      fmt::format("SELECT tag, {} FROM tags WHERE task = ? AND version = ? ORDER BY tag", seal_holds("tags")).c_str());
  for (rows.bind(name).bind(version); rows.step();) {
    rows.require_seal(1);
    tags.push_back(rows.text(0));
  }
  return tags;
}

std::optional<std::int64_t> SqliteStore::tagged_inside(std::string_view name, std::string_view tag) const {
  Statement row(database_,
                fmt::format("SELECT version, {} FROM tags WHERE task = ? AND tag = ?", seal_holds("tags")).c_str());
  if (!row.bind(name).bind(tag).step()) return {};
  row.require_seal(1);
  return row.integer(0);
}

// ---- shared states ----

SharedRow SqliteStore::shared_row(const std::string& name, std::int64_t version) const {
  Statement row(database_, fmt::format("SELECT parent, state, {} FROM shared_versions WHERE name = ? AND version = ?",
                                       seal_holds("shared_versions"))
                               .c_str());
  if (row.bind(name).bind(version).step()) {
    row.require_seal(2);
    return {row.integer(0), row.integer(1)};
  }
  fail(Code::kNotFound, "[store] no version {} of the shared state '{}'", version, printable(name));
}

std::int64_t SqliteStore::newest_shared(const std::string& name) const {
  Statement row(database_, "SELECT max(version) FROM shared_versions WHERE name = ?");
  return row.bind(name).step() ? row.integer(0) : 0;
}

SharedVersion SqliteStore::add_shared(const TaskRecord& task, const std::string& name, const PackedState& packed) {
  const std::int64_t version = newest_shared(name) + 1;
  const std::int64_t state = states_.write(packed);
  const std::string now = now_utc();
  Statement(database_,
            "INSERT INTO shared_versions (name, version, parent, created_utc, fingerprint, state) "
            "VALUES (?, ?, ?, ?, ?, ?)")
      .bind(name)
      .bind(version)
      .bind(version - 1)
      .bind(now)
      .bind(task.fingerprint)
      .bind(state)
      .run();
  return {name, version};
}

SharedVersion SqliteStore::follow(const std::string& name) const {
  const std::int64_t version = newest_shared(name);
  if (version == 0)
    fail(Code::kNotFound, "[store] no shared state '{}' to follow; commit its numbers too", printable(name));
  return {name, version};
}

Numbers SqliteStore::shared_numbers(const SharedVersion& version) const {
  const TaskRecord record = states_.read(shared_row(version.name, version.version).state);
  require_same_backbone("the shared state", version.name, record.fingerprint);
  return record.numbers;
}

/// The version and those that it came from.
std::set<std::int64_t> SqliteStore::lineage(const std::string& name, std::int64_t version) const {
  std::set<std::int64_t> versions;
  while (version > 0 && versions.insert(version).second) {
    version = shared_row(name, version).parent;
  }
  return versions;
}

void SqliteStore::take_along(const std::string& task, const SharedVersion& now, const std::set<std::int64_t>& lineage) {
  for (std::int64_t version = newest(task); version > 0; --version) {
    const auto old = row(task, version);
    if (!old || !old->follows || old->follows->name != now.name || !lineage.contains(old->follows->version)) continue;
    copy_version(task, version, now.version);
    Statement(database_, "UPDATE tasks SET removed_utc = NULL, seal = '' WHERE name = ? AND removed_utc GLOB '*' || ?")
        .bind(task)
        .bind(kByRollback)
        .run();
    return;
  }
  hide(task, kByRollback);
}

// ---- the interface ----

std::int64_t SqliteStore::commit(const TaskRecord& task, const Numbers* shared, const std::string& shared_name) try {
  require_writable();
  check_task_name(task.name);
  require_same_backbone("the task", task.name, task.fingerprint);
  const Stopwatch watch;
  const std::string& followed = shared_name.empty() && task.follows ? task.follows->name : shared_name;
  if (shared != nullptr || !followed.empty()) check_task_name(followed);
  const PackedState packed = pack_state(stored_part(task, task.name, Scope::kTask));
  std::optional<PackedState> packed_shared;
  if (shared != nullptr) packed_shared = pack_shared(task, *shared, followed);

  const std::lock_guard lock(mutex_);
  database_.expect_bytes(packed.stored_bytes() + (packed_shared ? packed_shared->stored_bytes() : 0));
  Change change(database_);
  refuse_case_twin(task.name);
  std::optional<SharedVersion> follows;
  if (packed_shared) {
    follows = add_shared(task, followed, *packed_shared);
  } else if (!followed.empty()) {
    follows = follow(followed);
  }
  show(task.name);
  const std::int64_t version = newest(task.name) + 1;
  insert_version(task, version, follows, packed);
  change.commit();
  log_event(LogLevel::kInfo, "task.saved",
            {{"task", task.name}, {"version", version}, {"bytes", packed.stored_bytes()}, {"ms", watch.ms()}});
  return version;
} catch (...) {
  rethrow_as_error(database_.shown());
}

std::optional<TaskRecord> SqliteStore::load(std::string_view name, std::int64_t version) const try {
  const std::lock_guard lock(mutex_);
  const Transaction transaction(database_, Access::kRead);
  const auto found = row(name, version == 0 ? newest_visible(name) : version);
  if (!found) return {};
  require_same_backbone("the task", std::string(name), found->fingerprint);
  TaskRecord task = states_.read(found->state);
  if (task.name != name || task.fingerprint != found->fingerprint) {
    fail(Code::kDataCorruption, "[store] {}: version {} of '{}' holds the state of '{}'; restore the store from a copy",
         database_.shown(), found->version, printable(name), task.name);
  }
  task.version = found->version;
  task.parent = found->parent;
  task.created_utc = found->created_utc;
  task.follows = found->follows;
  if (task.follows) {
    if (version == 0) task.follows->version = newest_shared(task.follows->name);
    add_numbers(task.numbers, shared_numbers(*task.follows), Scope::kShared);
  }
  log_event(LogLevel::kDebug, "task.loaded", {{"task", name}, {"version", task.version}});
  return task;
} catch (...) {
  rethrow_as_error(database_.shown());
}

std::vector<TaskSummary> SqliteStore::summaries(const char* condition, const Bind& bind) const {
  const std::string sql = fmt::format(
      "SELECT v.task, v.version, (SELECT count(*) FROM versions WHERE task = v.task), t.removed_utc, v.state_bytes, "
      "v.file_bytes, v.created_utc, v.classes, v.plugs, v.metrics, {}, {} FROM versions v JOIN tasks t ON t.name = "
      "v.task WHERE {} ORDER BY v.task, v.version",
      seal_holds("versions", "v."), seal_holds("tasks", "t."), condition);
  const std::string& origin = database_.shown();
  Statement rows(database_, sql.c_str());
  std::vector<TaskSummary> list;
  for (bind(rows); rows.step();) {
    rows.require_seal(10);
    rows.require_seal(11);
    list.push_back({.name = rows.text(0),
                    .version = rows.integer(1),
                    .versions = rows.integer(2),
                    .tags = tags_of(rows.text(0), rows.integer(1)),
                    .removed = !rows.is_null(3),
                    .state_bytes = rows.integer(4),
                    .file_bytes = rows.integer(5),
                    .created_utc = rows.text(6),
                    .classes = rows.integer(7),
                    .plugs = decode_plugs(rows.text(8), origin),
                    .metrics = parse_json(rows.text(9), origin)});
  }
  return list;
}

std::vector<TaskSummary> SqliteStore::list(bool with_removed) const try {
  const std::lock_guard lock(mutex_);
  const Transaction transaction(database_, Access::kRead);
  return summaries(
      "v.version = (SELECT max(version) FROM versions WHERE task = v.task) AND (? OR t.removed_utc IS NULL)",
      [&](Statement& rows) { rows.bind(std::int64_t{with_removed}); });
} catch (...) {
  rethrow_as_error(database_.shown());
}

std::vector<TaskSummary> SqliteStore::log(std::string_view name) const try {
  const std::lock_guard lock(mutex_);
  const Transaction transaction(database_, Access::kRead);
  std::vector<TaskSummary> versions = summaries("v.task = ?", [&](Statement& rows) { rows.bind(name); });
  if (versions.empty()) not_found(name);
  return versions;
} catch (...) {
  rethrow_as_error(database_.shown());
}

void SqliteStore::remove(std::string_view name) try {
  require_writable();
  const std::lock_guard lock(mutex_);
  Change change(database_);
  if (!hide(name)) not_found(name);
  change.commit();
  log_event(LogLevel::kInfo, "task.removed", {{"task", name}});
} catch (...) {
  rethrow_as_error(database_.shown());
}

void SqliteStore::purge(std::string_view name) try {
  require_writable();
  {
    const std::lock_guard lock(mutex_);
    Change change(database_);
    check_wholly(database_);  // indexes decide what else goes
    Statement(database_, "DELETE FROM tasks WHERE name = ?").bind(name).run();
    if (sqlite3_changes(database_.handle()) == 0) not_found(name);
    database_.execute(
        "DELETE FROM shared_versions WHERE name NOT IN (SELECT follows FROM versions WHERE follows IS NOT NULL)");
    database_.execute(
        "DELETE FROM states WHERE id NOT IN (SELECT state FROM versions UNION SELECT state FROM shared_versions)");
    change.commit();
  }
  log_event(LogLevel::kInfo, "task.purged", {{"task", name}});
  finish_purge(name);
} catch (...) {
  rethrow_as_error(database_.shown());
}

/// The task is gone; its bytes follow. What fails here is left for collect_garbage().
void SqliteStore::finish_purge(std::string_view name) noexcept try {
  {
    const std::lock_guard lock(mutex_);
    // The log still holds the old pages; a reader in another process may keep it, then it goes with the next one.
    database_.execute("PRAGMA wal_checkpoint(TRUNCATE)");
  }
  collect_garbage();
} catch (const std::exception& error) {
  log_event(LogLevel::kWarn, "store.sweep_failed",
            {{"store", database_.shown()}, {"task", name}, {"error", error.what()}});
}

std::int64_t SqliteStore::tag(std::string_view name, std::int64_t version, std::string_view tag, bool move) try {
  require_writable();
  check_tag(tag);
  const std::lock_guard lock(mutex_);
  Change change(database_);
  version = require_version(name, version);
  const auto before = tagged_inside(name, tag);
  if (before == version) return version;
  if (before && !move) {
    fail(Code::kAlreadyExists, "[store] '{}:{}' names version {} already; remove the tag first, or move it by force",
         printable(name), tag, *before);
  }
  Statement twin(database_, "SELECT tag FROM tags WHERE task = ?1 AND tag = ?2 COLLATE NOCASE AND tag <> ?2");
  if (twin.bind(name).bind(tag).step()) {
    fail(Code::kAlreadyExists, "[store] '{}' differs from the tag '{}' of '{}' in upper and lower case only", tag,
         twin.text(0), printable(name));
  }
  const std::string now = now_utc();
  Statement(database_,
            "INSERT INTO tags (task, tag, version, created_utc) VALUES (?, ?, ?, ?) ON CONFLICT (task, tag) DO UPDATE "
            "SET version = excluded.version, created_utc = excluded.created_utc, seal = ''")
      .bind(name)
      .bind(tag)
      .bind(version)
      .bind(now)
      .run();
  change.commit();
  return version;
} catch (...) {
  rethrow_as_error(database_.shown());
}

void SqliteStore::untag(std::string_view name, std::string_view tag) try {
  require_writable();
  const std::lock_guard lock(mutex_);
  Change change(database_);
  Statement(database_, "DELETE FROM tags WHERE task = ? AND tag = ?").bind(name).bind(tag).run();
  if (sqlite3_changes(database_.handle()) == 0) {
    if (newest(name) == 0) not_found(name);
    fail(Code::kNotFound, "[store] the task '{}' has no tag '{}'", printable(name), printable(tag));
  }
  change.commit();
} catch (...) {
  rethrow_as_error(database_.shown());
}

std::optional<std::int64_t> SqliteStore::tagged(std::string_view name, std::string_view tag) const try {
  const std::lock_guard lock(mutex_);
  const Transaction transaction(database_, Access::kRead);
  return tagged_inside(name, tag);
} catch (...) {
  rethrow_as_error(database_.shown());
}

std::int64_t SqliteStore::rollback(std::string_view name, std::int64_t version) try {
  require_writable();
  const std::lock_guard lock(mutex_);
  Change change(database_);
  const std::int64_t last = newest(name);
  version = require_version(name, version);
  const auto old = row(name, version);
  require_same_backbone("the task", std::string(name), old->fingerprint);
  if (old->follows && version != last) {
    fail(Code::kInvalidArgument,
         "[store] the task '{}' follows the shared state '{}', which other tasks follow too: it cannot go back alone; "
         "roll the shared state back to version {}",
         printable(name), old->follows->name, old->follows->version);
  }
  const std::int64_t next = copy_version(name, version, 0);
  show(name);
  change.commit();
  log_event(LogLevel::kInfo, "task.rolled_back", {{"task", name}, {"version", next}, {"copy_of", version}});
  return next;
} catch (...) {
  rethrow_as_error(database_.shown());
}

std::int64_t SqliteStore::rollback_shared(const std::string& name, std::int64_t version) try {
  require_writable();
  const std::lock_guard lock(mutex_);
  Change change(database_);
  const std::set<std::int64_t> before = lineage(name, version);
  if (before.empty()) fail(Code::kNotFound, "[store] no version {} of the shared state '{}'", version, printable(name));
  const SharedVersion now{name, newest_shared(name) + 1};
  const std::string created = now_utc();
  Statement(database_,
            "INSERT INTO shared_versions (name, version, parent, created_utc, fingerprint, state) "
            "SELECT name, ?, version, ?, fingerprint, state FROM shared_versions WHERE name = ? AND version = ?")
      .bind(now.version)
      .bind(created)
      .bind(name)
      .bind(version)
      .run();
  for (const std::string& task : names("SELECT name FROM tasks")) {
    const auto last = row(task, newest(task));
    if (last && last->follows && last->follows->name == name) take_along(task, now, before);
  }
  change.commit();
  return now.version;
} catch (...) {
  rethrow_as_error(database_.shown());
}

std::optional<Numbers> SqliteStore::shared(const std::string& name) const try {
  const std::lock_guard lock(mutex_);
  const Transaction transaction(database_, Access::kRead);
  const std::int64_t version = newest_shared(name);
  if (version == 0) return {};
  return shared_numbers({name, version});
} catch (...) {
  rethrow_as_error(database_.shown());
}

std::int64_t SqliteStore::collect_garbage() try {
  require_writable();
  const std::lock_guard lock(mutex_);
  const Change nobody_else_writes(database_);
  check_wholly(database_);
  return states_.sweep();
} catch (...) {
  rethrow_as_error(database_.shown());
}

}  // namespace

void check_tag(std::string_view tag) {
  check_task_name(tag);
  if (tag.find_first_not_of("0123456789") != tag.npos) return;
  fail(Code::kInvalidArgument, "[store] '{}' cannot be a tag: digits alone are a version's number", tag);
}

std::unique_ptr<TaskStore> open_sqlite_store(const std::filesystem::path& directory, const std::string& fingerprint,
                                             bool read_only, Disk disk) {
  const std::filesystem::path path = directory / "tasks.db";
  try {
    std::error_code unknown;
    const bool there = std::filesystem::exists(std::filesystem::symlink_status(path, unknown));
    if (disk == Disk::kLocal && (there || !read_only)) refuse_network(directory);
    std::optional<Database> database;
    if (!read_only) {
      database.emplace(path, Access::kWrite);
      prepare_for_writing(*database);
    } else if (there) {
      database = ready_for_reading(Database(path, Access::kRead));
    }
    if (!database) create_schema(database.emplace(Database::in_memory()));
    return std::make_unique<SqliteStore>(std::move(*database), directory, fingerprint, read_only);
  } catch (...) {
    rethrow_as_error(printable(path.string(), 4096));
  }
}

std::int64_t import_task(TaskStore& store, const TaskRecord& task) {
  if (!task.follows) return store.commit(task);
  const std::string& name = task.follows->name;
  const Numbers theirs = task.numbers.only(Scope::kShared);
  const std::optional<Numbers> ours = store.shared(name);
  if (!ours) return store.commit(task, &theirs, name);
  if (!equal(*ours, theirs)) {
    fail(Code::kShapeMismatch,
         "[store] the task '{}' follows another version of the shared state '{}' than the tasks in this store; import "
         "it into a model directory without them",
         printable(task.name), name);
  }
  return store.commit(task, nullptr, name);
}

}  // namespace recast
