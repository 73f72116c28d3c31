#include <mutex>
#include <set>

#include "change.h"
#include "disk.h"
#include "recast/base/error.h"
#include "recast/base/log.h"
#include "recast/format/printable.h"
#include "recast/store/task_store.h"
#include "rethrow_as_error.h"
#include "schema.h"
#include "shared_rows.h"
#include "sqlite.h"
#include "state_storage.h"
#include "task_rows.h"

namespace recast {
namespace {

using Access = Database::Access;

void add_numbers(Numbers& numbers, const Numbers& more, Scope scope) {
  for (const auto& [plug, scopes] : more.plugs()) {
    if (const State& state = more.at(plug, scope); !state.empty()) numbers.at(plug, scope) = state;
  }
}

/// The interface on top of the rows: it takes the lock, begins and ends transactions, says what may be done, and logs.
class SqliteStore final : public TaskStore {
 public:
  SqliteStore(Database database, const std::filesystem::path& directory, std::string fingerprint, bool read_only)
      : fingerprint_(std::move(fingerprint)),
        read_only_(read_only),
        database_(std::move(database)),
        tasks_(database_),
        shared_(database_),
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
  // Anywhere.
  void require_writable() const;
  void require_same_backbone(const std::string& what, const std::string& name, const std::string& fingerprint) const;

  // Inside a transaction (one that changes rows: a Change), with mutex_ held.
  void refuse_case_twin(const std::string& name) const;
  [[noreturn]] void not_found(std::string_view name) const;
  std::int64_t require_version(std::string_view name, std::int64_t version) const;
  void refuse_other_tag(std::string_view name, std::string_view tag, std::optional<std::int64_t> before,
                        bool move) const;
  std::int64_t insert(const TaskRecord& task, const PackedState& packed, const std::string& followed,
                      const std::optional<PackedState>& packed_shared);
  SharedVersion add_shared(const TaskRecord& task, const std::string& name, const PackedState& packed);
  SharedVersion follow(const std::string& name) const;
  TaskRecord read(std::string_view name, const VersionRow& row) const;
  Numbers shared_numbers(const SharedVersion& version) const;
  void take_along(const std::string& task, const SharedVersion& now, const std::set<std::int64_t>& lineage);

  // Without mutex_.
  void finish_purge(std::string_view name) noexcept;

  // Constant after construction.
  const std::string fingerprint_;
  const bool read_only_;
  // Guarded by mutex_.
  mutable std::mutex mutex_;
  mutable Database database_;
  TaskRows tasks_;
  SharedRows shared_;
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
  const auto twin = tasks_.case_twin(name);
  if (!twin) return;
  fail(Code::kAlreadyExists,
       "[store] '{}' differs from the task '{}' in upper and lower case only; choose another name", name, *twin);
}

void SqliteStore::not_found(std::string_view name) const {
  const std::string near = nearest(name, tasks_.visible_names());
  fail(Code::kNotFound, "[store] no task '{}'{}", printable(name),
       near.empty() ? "; 'tasks list' shows those that there are" : ", did you mean '" + near + "'?");
}

/// The number of a version that there is; 0: the newest.
std::int64_t SqliteStore::require_version(std::string_view name, std::int64_t version) const {
  const std::int64_t last = tasks_.newest(name);
  if (last == 0) not_found(name);
  if (version >= 0 && version <= last) return version == 0 ? last : version;
  fail(Code::kNotFound, "[store] the task '{}' has no version {}; it has 1 to {}", printable(name), version, last);
}

/// `before`: the version, another one, that the tag names already.
void SqliteStore::refuse_other_tag(std::string_view name, std::string_view tag, std::optional<std::int64_t> before,
                                   bool move) const {
  if (before && !move) {
    fail(Code::kAlreadyExists, "[store] '{}:{}' names version {} already; remove the tag first, or move it by force",
         printable(name), tag, *before);
  }
  if (const auto twin = tasks_.tag_twin(name, tag)) {
    fail(Code::kAlreadyExists, "[store] '{}' differs from the tag '{}' of '{}' in upper and lower case only", tag,
         *twin, printable(name));
  }
}

// ---- tasks and the shared states that they follow ----

std::int64_t SqliteStore::insert(const TaskRecord& task, const PackedState& packed, const std::string& followed,
                                 const std::optional<PackedState>& packed_shared) {
  std::optional<SharedVersion> follows;
  if (packed_shared) {
    follows = add_shared(task, followed, *packed_shared);
  } else if (!followed.empty()) {
    follows = follow(followed);
  }
  tasks_.show(task.name);
  const std::int64_t version = tasks_.newest(task.name) + 1;
  tasks_.insert(task, version, follows, {states_.write(packed), packed.stored_bytes()});
  return version;
}

SharedVersion SqliteStore::add_shared(const TaskRecord& task, const std::string& name, const PackedState& packed) {
  const SharedVersion next{name, shared_.newest(name) + 1};
  shared_.insert(next, task.fingerprint, states_.write(packed));
  return next;
}

SharedVersion SqliteStore::follow(const std::string& name) const {
  const std::int64_t version = shared_.newest(name);
  if (version == 0)
    fail(Code::kNotFound, "[store] no shared state '{}' to follow; commit its numbers too", printable(name));
  return {name, version};
}

/// The task as its own state has it, without the numbers that it shares.
TaskRecord SqliteStore::read(std::string_view name, const VersionRow& row) const {
  require_same_backbone("the task", std::string(name), row.fingerprint);
  TaskRecord task = states_.read(row.state);
  if (task.name != name || task.fingerprint != row.fingerprint) {
    fail(Code::kDataCorruption, "[store] {}: version {} of '{}' holds the state of '{}'; restore the store from a copy",
         database_.shown(), row.version, printable(name), task.name);
  }
  task.version = row.version;
  task.parent = row.parent;
  task.created_utc = row.created_utc;
  task.follows = row.follows;
  return task;
}

Numbers SqliteStore::shared_numbers(const SharedVersion& version) const {
  const TaskRecord record = states_.read(shared_.version(version).state);
  require_same_backbone("the shared state", version.name, record.fingerprint);
  return record.numbers;
}

/// `now`: a copy of the first of `lineage`. The task goes back to its last version from that time, or is hidden.
void SqliteStore::take_along(const std::string& task, const SharedVersion& now, const std::set<std::int64_t>& lineage) {
  for (std::int64_t version = tasks_.newest(task); version > 0; --version) {
    const auto old = tasks_.version(task, version);
    if (!old || !old->follows || old->follows->name != now.name || !lineage.contains(old->follows->version)) continue;
    tasks_.copy(task, version, now.version);
    tasks_.show_if_hidden_by_rollback(task);
    return;
  }
  tasks_.hide(task, HiddenBy::kRollback);
}

// ---- the interface ----

std::int64_t SqliteStore::commit(const TaskRecord& task, const Numbers* shared, const std::string& shared_name) try {
  require_writable();
  check_task_name(task.name);
  require_same_backbone("the task", task.name, task.fingerprint);
  const Stopwatch watch;
  const std::string& followed = shared_name.empty() && task.follows ? task.follows->name : shared_name;
  if (shared != nullptr || !followed.empty()) check_task_name(followed);
  const PackedState packed = pack_task(task);
  std::optional<PackedState> packed_shared;
  if (shared != nullptr) packed_shared = pack_shared(task, *shared, followed);

  const std::lock_guard lock(mutex_);
  database_.expect_bytes(packed.stored_bytes() + (packed_shared ? packed_shared->stored_bytes() : 0));
  Change change(database_);
  refuse_case_twin(task.name);
  const std::int64_t version = insert(task, packed, followed, packed_shared);
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
  const auto row = tasks_.version(name, version == 0 ? tasks_.newest_visible(name) : version);
  if (!row) return {};
  TaskRecord task = read(name, *row);
  if (task.follows) {
    if (version == 0) task.follows->version = shared_.newest(task.follows->name);
    add_numbers(task.numbers, shared_numbers(*task.follows), Scope::kShared);
  }
  log_event(LogLevel::kDebug, "task.loaded", {{"task", name}, {"version", task.version}});
  return task;
} catch (...) {
  rethrow_as_error(database_.shown());
}

std::vector<TaskSummary> SqliteStore::list(bool with_removed) const try {
  const std::lock_guard lock(mutex_);
  const Transaction transaction(database_, Access::kRead);
  return tasks_.newest_of_each(with_removed);
} catch (...) {
  rethrow_as_error(database_.shown());
}

std::vector<TaskSummary> SqliteStore::log(std::string_view name) const try {
  const std::lock_guard lock(mutex_);
  const Transaction transaction(database_, Access::kRead);
  std::vector<TaskSummary> versions = tasks_.all_of(name);
  if (versions.empty()) not_found(name);
  return versions;
} catch (...) {
  rethrow_as_error(database_.shown());
}

void SqliteStore::remove(std::string_view name) try {
  require_writable();
  const std::lock_guard lock(mutex_);
  Change change(database_);
  if (!tasks_.hide(name, HiddenBy::kPerson)) not_found(name);
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
    if (!tasks_.erase(name)) not_found(name);
    shared_.erase_unfollowed();
    states_.erase_unnamed();
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
  const auto before = tasks_.tagged(name, tag);
  if (before == version) return version;
  refuse_other_tag(name, tag, before, move);
  tasks_.set_tag(name, tag, version);
  change.commit();
  return version;
} catch (...) {
  rethrow_as_error(database_.shown());
}

void SqliteStore::untag(std::string_view name, std::string_view tag) try {
  require_writable();
  const std::lock_guard lock(mutex_);
  Change change(database_);
  if (!tasks_.erase_tag(name, tag)) {
    if (tasks_.newest(name) == 0) not_found(name);
    fail(Code::kNotFound, "[store] the task '{}' has no tag '{}'", printable(name), printable(tag));
  }
  change.commit();
} catch (...) {
  rethrow_as_error(database_.shown());
}

std::optional<std::int64_t> SqliteStore::tagged(std::string_view name, std::string_view tag) const try {
  const std::lock_guard lock(mutex_);
  const Transaction transaction(database_, Access::kRead);
  return tasks_.tagged(name, tag);
} catch (...) {
  rethrow_as_error(database_.shown());
}

std::int64_t SqliteStore::rollback(std::string_view name, std::int64_t version) try {
  require_writable();
  const std::lock_guard lock(mutex_);
  Change change(database_);
  const std::int64_t last = tasks_.newest(name);
  version = require_version(name, version);
  const auto old = tasks_.version(name, version);
  require_same_backbone("the task", std::string(name), old->fingerprint);
  if (old->follows && version != last) {
    fail(Code::kInvalidArgument,
         "[store] the task '{}' follows the shared state '{}', which other tasks follow too: it cannot go back alone; "
         "roll the shared state back to version {}",
         printable(name), old->follows->name, old->follows->version);
  }
  const std::int64_t next = tasks_.copy(name, version, 0);
  tasks_.show(name);
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
  const std::set<std::int64_t> before = shared_.lineage(name, version);
  if (before.empty()) fail(Code::kNotFound, "[store] no version {} of the shared state '{}'", version, printable(name));
  const SharedVersion now{name, shared_.newest(name) + 1};
  shared_.copy(version, now);
  for (const std::string& task : tasks_.names()) {
    const auto last = tasks_.version(task, tasks_.newest(task));
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
  const std::int64_t version = shared_.newest(name);
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
      database = ready_for_reading(Database::for_reading(path));
    }
    if (!database) create_schema(database.emplace(Database::in_memory()));
    return std::make_unique<SqliteStore>(std::move(*database), directory, fingerprint, read_only);
  } catch (...) {
    rethrow_as_error(printable(path.string(), 4096));
  }
}

}  // namespace recast
