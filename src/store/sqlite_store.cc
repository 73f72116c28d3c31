#include <mutex>
#include <set>

#include "change.h"
#include "change_watch.h"
#include "connections.h"
#include "disk.h"
#include "recast/base/error.h"
#include "recast/base/log.h"
#include "recast/format/printable.h"
#include "recast/store/task_store.h"
#include "rethrow_as_error.h"
#include "schema.h"
#include "sqlite.h"
#include "store_view.h"

namespace recast {
namespace {

using Access = Database::Access;

/// The interface on top of the rows: it takes the lock, begins and ends transactions, says what may be done, and logs.
class SqliteStore final : public TaskStore {
 public:
  /// `main`: what is written by, and read where there are no `readers`. One of them at least.
  SqliteStore(const std::filesystem::path& path, bool read_only, std::unique_ptr<StoreConnection> main,
              std::unique_ptr<Connections> readers)
      : shown_(printable(path.string(), 4096)),
        read_only_(read_only),
        watch_(path),
        readers_(std::move(readers)),
        main_(std::move(main)) {}

  std::int64_t commit(const TaskRecord& task, const Numbers* shared, const std::string& shared_name) override;
  std::optional<TaskRecord> load(std::string_view name, std::int64_t version) const override;
  std::optional<Resolved> resolve(std::string_view name, std::int64_t version, std::string_view tag) const override;
  std::optional<TaskRecord> load(const Resolved& resolved) const override;
  std::int64_t changes() const override;
  std::vector<TaskName> names_after(std::string_view name, std::int64_t limit) const override;
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
  /// What `work` makes of a StoreView, inside a transaction.
  template <class Work>
  auto read(const Work& work) const;

  // Inside a Change, with mutex_ held.
  void refuse_case_twin(const std::string& name) const;
  std::int64_t require_version(std::string_view name, std::int64_t version) const;
  void refuse_other_tag(std::string_view name, std::string_view tag, std::optional<std::int64_t> before,
                        bool move) const;
  std::int64_t insert(const TaskRecord& task, const PackedState& packed, const std::string& followed,
                      const std::optional<PackedState>& packed_shared);
  SharedVersion add_shared(const TaskRecord& task, const std::string& name, const PackedState& packed);
  SharedVersion follow(const std::string& name) const;
  void take_along(const std::string& task, const SharedVersion& now, const std::set<std::int64_t>& lineage);
  Database& database() { return main_->database; }
  TaskRows& tasks() const { return main_->view.tasks; }
  SharedRows& shared_rows() const { return main_->view.shared; }
  StateStorage& states() { return main_->view.states; }

  // Without mutex_.
  void finish_purge(std::string_view name) noexcept;

  // Constant after construction; watch and readers have locks of their own.
  const std::string shown_;
  const bool read_only_;
  mutable ChangeWatch watch_;
  const std::unique_ptr<Connections> readers_;
  // What it points to is guarded by mutex_.
  mutable std::mutex mutex_;
  const std::unique_ptr<StoreConnection> main_;
};

template <class Work>
auto SqliteStore::read(const Work& work) const try {
  if (readers_) return readers_->read(work);
  const std::lock_guard lock(mutex_);
  return main_->read(work);
} catch (...) {
  rethrow_as_error(shown_);
}

// ---- checks ----

void SqliteStore::require_writable() const {
  if (read_only_) {
    fail(Code::kUnavailable, "[store] {}: was opened for reading only; open it for writing", shown_);
  }
}

void SqliteStore::refuse_case_twin(const std::string& name) const {
  const auto twin = tasks().case_twin(name);
  if (!twin) return;
  fail(Code::kAlreadyExists,
       "[store] '{}' differs from the task '{}' in upper and lower case only; choose another name", name, *twin);
}

/// The number of a version that there is; 0: the newest.
std::int64_t SqliteStore::require_version(std::string_view name, std::int64_t version) const {
  const std::int64_t last = main_->view.newest(name);
  if (last == 0) main_->view.not_found(name);
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
  if (const auto twin = tasks().tag_twin(name, tag)) {
    fail(Code::kAlreadyExists, "[store] '{}' differs from the tag '{}' of '{}' in upper and lower case only", tag,
         *twin, printable(name));
  }
}

// ---- tasks and the shared states that they follow ----

std::int64_t SqliteStore::insert(const TaskRecord& task, const PackedState& packed, const std::string& followed,
                                 const std::optional<PackedState>& packed_shared) {
  const std::int64_t version = main_->view.newest(task.name) + 1;  // while all rows are sealed
  std::optional<SharedVersion> follows;
  if (packed_shared) {
    follows = add_shared(task, followed, *packed_shared);
  } else if (!followed.empty()) {
    follows = follow(followed);
  }
  tasks().show(task.name);
  tasks().insert(task, version, follows, {states().write(packed), packed.stored_bytes()});
  return version;
}

SharedVersion SqliteStore::add_shared(const TaskRecord& task, const std::string& name, const PackedState& packed) {
  const SharedVersion next{name, shared_rows().newest(name) + 1};
  shared_rows().insert(next, task.fingerprint, states().write(packed));
  return next;
}

SharedVersion SqliteStore::follow(const std::string& name) const {
  const std::int64_t version = shared_rows().newest(name);
  if (version == 0)
    fail(Code::kNotFound, "[store] no shared state '{}' to follow; commit its numbers too", printable(name));
  return {name, version};
}

/// `now`: a copy of the first of `lineage`. The task goes back to its last version from that time, or is hidden.
void SqliteStore::take_along(const std::string& task, const SharedVersion& now, const std::set<std::int64_t>& lineage) {
  for (std::int64_t version = tasks().newest(task); version > 0; --version) {
    const auto old = tasks().version(task, version);
    if (!old || !old->follows || old->follows->name != now.name || !lineage.contains(old->follows->version)) continue;
    tasks().copy(task, version, now.version);
    tasks().show_if_hidden_by_rollback(task);
    return;
  }
  tasks().hide(task, HiddenBy::kRollback);
}

// ---- the interface ----

std::int64_t SqliteStore::commit(const TaskRecord& task, const Numbers* shared, const std::string& shared_name) try {
  require_writable();
  check_task_name(task.name);
  main_->view.require_same_backbone("the task", task.name, task.fingerprint);
  const Stopwatch watch;
  const std::string& followed = shared_name.empty() && task.follows ? task.follows->name : shared_name;
  if (shared != nullptr || !followed.empty()) check_task_name(followed);
  const PackedState packed = pack_task(task);
  std::optional<PackedState> packed_shared;
  if (shared != nullptr) packed_shared = pack_shared(task, *shared, followed);

  const std::lock_guard lock(mutex_);
  database().expect_bytes(packed.stored_bytes() + (packed_shared ? packed_shared->stored_bytes() : 0));
  Change change(database());
  refuse_case_twin(task.name);
  const std::int64_t version = insert(task, packed, followed, packed_shared);
  change.commit();
  log_event(LogLevel::kInfo, "task.saved",
            {{"task", task.name}, {"version", version}, {"bytes", packed.stored_bytes()}, {"ms", watch.ms()}});
  return version;
} catch (...) {
  rethrow_as_error(shown_);
}

std::optional<TaskRecord> SqliteStore::load(std::string_view name, std::int64_t version) const {
  auto task = read([&](const StoreView& view) { return view.load(name, version); });
  if (task) log_event(LogLevel::kDebug, "task.loaded", {{"task", name}, {"version", task->version}});
  return task;
}

std::optional<TaskRecord> SqliteStore::load(const Resolved& resolved) const {
  auto task = read([&](const StoreView& view) { return view.load(resolved); });
  if (task) log_event(LogLevel::kDebug, "task.loaded", {{"task", task->name}, {"version", task->version}});
  return task;
}

std::optional<Resolved> SqliteStore::resolve(std::string_view name, std::int64_t version, std::string_view tag) const {
  return read([&](const StoreView& view) { return view.resolve(name, version, tag); });
}

std::int64_t SqliteStore::changes() const try { return watch_.changes(); } catch (...) {
  rethrow_as_error(shown_);
}

std::vector<TaskName> SqliteStore::names_after(std::string_view name, std::int64_t limit) const {
  if (limit < 1) fail(Code::kInvalidArgument, "[store] a page of {} names; expected at least 1", limit);
  return read([&](const StoreView& view) { return view.names_after(name, limit); });
}

std::vector<TaskSummary> SqliteStore::list(bool with_removed) const {
  return read([&](const StoreView& view) { return view.tasks.newest_of_each(with_removed); });
}

std::vector<TaskSummary> SqliteStore::log(std::string_view name) const {
  return read([&](const StoreView& view) { return view.log(name); });
}

void SqliteStore::remove(std::string_view name) try {
  require_writable();
  const std::lock_guard lock(mutex_);
  Change change(database());
  if (!tasks().hide(name, HiddenBy::kPerson)) main_->view.not_found(name);
  change.commit();
  log_event(LogLevel::kInfo, "task.removed", {{"task", name}});
} catch (...) {
  rethrow_as_error(shown_);
}

void SqliteStore::purge(std::string_view name) try {
  require_writable();
  {
    const std::lock_guard lock(mutex_);
    Change change(database());
    check_wholly(database());  // indexes decide what else goes
    if (!tasks().erase(name)) main_->view.not_found(name);
    shared_rows().erase_unfollowed();
    states().erase_unnamed();
    change.commit();
  }
  log_event(LogLevel::kInfo, "task.purged", {{"task", name}});
  finish_purge(name);
} catch (...) {
  rethrow_as_error(shown_);
}

/// The task is gone; its bytes follow. What fails here is left for collect_garbage().
void SqliteStore::finish_purge(std::string_view name) noexcept try {
  {
    const std::lock_guard lock(mutex_);
    // The log still holds the old pages; a reader in another process may keep it, then it goes with the next one.
    database().execute("PRAGMA wal_checkpoint(TRUNCATE)");
  }
  collect_garbage();
} catch (const std::exception& error) {
  log_event(LogLevel::kWarn, "store.sweep_failed", {{"store", shown_}, {"task", name}, {"error", error.what()}});
}

std::int64_t SqliteStore::tag(std::string_view name, std::int64_t version, std::string_view tag, bool move) try {
  require_writable();
  check_tag(tag);
  const std::lock_guard lock(mutex_);
  Change change(database());
  version = require_version(name, version);
  const auto before = tasks().tagged(name, tag);
  if (before == version) return version;
  refuse_other_tag(name, tag, before, move);
  tasks().set_tag(name, tag, version);
  change.commit();
  return version;
} catch (...) {
  rethrow_as_error(shown_);
}

void SqliteStore::untag(std::string_view name, std::string_view tag) try {
  require_writable();
  const std::lock_guard lock(mutex_);
  Change change(database());
  if (!tasks().erase_tag(name, tag)) {
    if (tasks().newest(name) == 0) main_->view.not_found(name);
    fail(Code::kNotFound, "[store] the task '{}' has no tag '{}'", printable(name), printable(tag));
  }
  change.commit();
} catch (...) {
  rethrow_as_error(shown_);
}

std::optional<std::int64_t> SqliteStore::tagged(std::string_view name, std::string_view tag) const {
  return read([&](const StoreView& view) { return view.tasks.tagged(name, tag); });
}

std::int64_t SqliteStore::rollback(std::string_view name, std::int64_t version) try {
  require_writable();
  const std::lock_guard lock(mutex_);
  Change change(database());
  const std::int64_t last = tasks().newest(name);
  version = require_version(name, version);
  const auto old = tasks().version(name, version);
  main_->view.require_same_backbone("the task", std::string(name), old->fingerprint);
  if (old->follows && version != last) {
    fail(Code::kInvalidArgument,
         "[store] the task '{}' follows the shared state '{}', which other tasks follow too: it cannot go back alone; "
         "roll the shared state back to version {}",
         printable(name), old->follows->name, old->follows->version);
  }
  const std::int64_t next = tasks().copy(name, version, 0);
  tasks().show(name);
  change.commit();
  log_event(LogLevel::kInfo, "task.rolled_back", {{"task", name}, {"version", next}, {"copy_of", version}});
  return next;
} catch (...) {
  rethrow_as_error(shown_);
}

std::int64_t SqliteStore::rollback_shared(const std::string& name, std::int64_t version) try {
  require_writable();
  const std::lock_guard lock(mutex_);
  Change change(database());
  const std::set<std::int64_t> before = shared_rows().lineage(name, version);
  if (before.empty()) fail(Code::kNotFound, "[store] no version {} of the shared state '{}'", version, printable(name));
  const SharedVersion now{name, shared_rows().newest(name) + 1};
  shared_rows().copy(version, now);
  for (const std::string& task : tasks().names()) {
    const auto last = tasks().version(task, tasks().newest(task));
    if (last && last->follows && last->follows->name == name) take_along(task, now, before);
  }
  change.commit();
  return now.version;
} catch (...) {
  rethrow_as_error(shown_);
}

std::optional<Numbers> SqliteStore::shared(const std::string& name) const {
  return read([&](const StoreView& view) { return view.shared_numbers(name); });
}

std::int64_t SqliteStore::collect_garbage() try {
  require_writable();
  const std::lock_guard lock(mutex_);
  const Change nobody_else_writes(database());
  check_wholly(database());
  return states().sweep();
} catch (...) {
  rethrow_as_error(shown_);
}

}  // namespace

std::unique_ptr<TaskStore> open_sqlite_store(const std::filesystem::path& directory, const std::string& fingerprint,
                                             bool read_only, Disk disk, Verify verify) {
  const std::filesystem::path path = directory / "tasks.db";
  const auto connection = [=](std::optional<Database> database) {
    if (!database) create_schema(database.emplace(Database::in_memory()));
    return std::make_unique<StoreConnection>(std::move(*database), directory / "blobs", fingerprint);
  };
  const auto lying = verify == Verify::kAsRead ? Database::Lying::kWatched : Database::Lying::kCopied;
  const auto reader = [=] {
    std::error_code unknown;
    if (!std::filesystem::exists(std::filesystem::symlink_status(path, unknown))) return connection({});
    if (disk == Disk::kLocal) refuse_network(directory);
    return connection(ready_for_reading(Database::for_reading(path, lying), verify));
  };
  try {
    std::unique_ptr<StoreConnection> main;
    std::unique_ptr<Connections> readers;
    if (!read_only) {
      if (disk == Disk::kLocal) refuse_network(directory);
      Database database(path, Access::kWrite);
      prepare_for_writing(database, verify);
      main = connection(std::move(database));
    }
    if (verify == Verify::kAsRead) {
      readers = std::make_unique<Connections>(path, reader);
    } else if (read_only) {
      main = reader();
    }
    return std::make_unique<SqliteStore>(path, read_only, std::move(main), std::move(readers));
  } catch (...) {
    rethrow_as_error(printable(path.string(), 4096));
  }
}

}  // namespace recast
