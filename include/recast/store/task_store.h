#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "recast/store/task_record.h"

namespace recast {

/// One version of a task without its numbers.
struct TaskSummary {
  std::string name;
  std::int64_t version = 0;
  std::int64_t versions = 0;      ///< how many the store holds of this task
  std::vector<std::string> tags;  ///< of this version, sorted
  bool removed = false;           ///< the task is hidden
  std::int64_t state_bytes = 0;   ///< of the tensors of scope kTask
  std::int64_t file_bytes = 0;    ///< what the version takes in the store, without the shared state that it follows
  std::string created_utc;
  std::int64_t classes = 0;
  std::vector<PlugSpec> plugs;
  nlohmann::json metrics;
};

/// What a name stands for at one moment: a version, and what it answers with.
struct Resolved {
  std::string name;
  std::int64_t version = 0;
  /// Of the shared numbers at work: their newest version where the newest version of the task was asked for, the
  /// recorded one otherwise.
  std::optional<SharedVersion> follows;
  bool removed = false;  ///< the task is hidden
  /// 64 lower-case hexadecimal digits over all that decides the answers, and nothing else: name, fingerprint, labels,
  /// plug-ins, recipe (image size), metrics, data and numbers of the task's state, and the shared numbers at work.
  /// Equal for a rollback's copy; another for a task that was purged and learned again, unless that gave the same bits.
  std::string digest;
};

/// A task in a listing of names.
struct TaskName {
  std::string name;
  std::int64_t version = 0;  ///< the newest
};

/// A durable map from task name to task, every version kept. Tasks of methods that are not isolated follow a shared
/// state, which has a name and versions of its own.
/// Threads    all calls may run in parallel. Opened with Verify::kWhole they take turns; with Verify::kAsRead those
///            that read do not, up to 8 at a time. Processes: any number; one writes at a time, a second one waits up
///            to 10 s. Readers are never held up, and see what another process commits from their next call on.
/// Owns       its connections; results are values that share nothing with the store.
/// Crash      once a call that writes has returned, its work survives kill -9 and power loss; before that, all of it is
///            there or nothing. A call that threw has done nothing; only where a flush to disk failed may it have done
///            all.
/// Absence    is no error for load(), resolve() and shared(). Reading never creates or changes the store.
/// Removal    a task that another process erases while it is read is read as it was, or not there.
/// Throws     kUnavailable: out of reach, disk full, another writer for more than 10 s (its process is named), opened
///            for reading only, or a flush failed earlier (open it again);  kDataCorruption: damaged;  kShapeMismatch:
///            a task of another backbone, both fingerprints named;  kUnsupported: written by a newer recast;
///            kExhausted: too large, or no memory.
class TaskStore {
 public:
  virtual ~TaskStore() = default;

  /// Stores `task` as its next version (1, 2, ...), which it returns; a hidden task is shown again. version, parent and
  /// follows of `task` are the store's to set, created_utc where it is empty. In the same transaction:
  /// - `shared` given: its numbers of scope kShared become the next version of `shared_name`, and the task follows it;
  /// - only `shared_name` given (or task.follows): the task follows the newest version, which must exist (kNotFound);
  /// - neither: the task stands alone.
  /// `request`: a key by which the caller may repeat a call whose outcome it does not know; empty: none. What was
  /// committed to the task under this key before, up to 30 days ago, is not committed again, and its version returned.
  /// Only a database elsewhere can leave an outcome unknown: a store in a file takes no notice of keys.
  /// Throws kAlreadyExists: another task's name differs in upper and lower case only; as encode_task().
  virtual std::int64_t commit(const TaskRecord& task, const Numbers* shared = nullptr,
                              const std::string& shared_name = {}, const std::string& request = {}) = 0;

  /// version 0: the newest, with the newest numbers of the shared state that it follows; nothing if the task is hidden.
  /// Another: that version with the shared numbers recorded with it, hidden or not. `follows` of the result names the
  /// version of the shared numbers in it.
  virtual std::optional<TaskRecord> load(std::string_view name, std::int64_t version = 0) const = 0;

  /// What load() would give, without loading it. `tag` not empty: the version that it names, hidden or not (`version`
  /// does not count). Nothing: no such task, version or tag, or version 0 of a hidden task. By indexed reads: about
  /// 60 us for a task of 30 kB among 100,000.
  virtual std::optional<Resolved> resolve(std::string_view name, std::int64_t version = 0,
                                          std::string_view tag = {}) const = 0;
  /// The task that `resolved`, of resolve(), stands for, whatever was committed since. Nothing: the store no longer
  /// holds it (purged, or learned again after that); resolve again.
  virtual std::optional<TaskRecord> load(const Resolved& resolved) const = 0;

  /// A number that is another one after each commit, of this process or another: keep what was resolved until it
  /// changes. It may change without one too. Takes 3 us where nothing happened. A store opened with Verify::kAsRead
  /// that was absent, on a read-only disk, or of an older schema is opened again where its file has changed since.
  /// Throws kUnavailable: another file has taken the place of tasks.db, whose log may still be the old one's; or a
  /// newer recast has brought it to another schema. Close the store and open it again.
  virtual std::int64_t changes() const = 0;

  /// The visible tasks that come after `name` ("": all) in the order of their bytes, `limit` (at least 1) at most.
  /// Fewer: there are no more. Each call shows one state of the store; those between two calls may differ.
  virtual std::vector<TaskName> names_after(std::string_view name, std::int64_t limit) const = 0;
  /// The newest version of each task, by name.
  virtual std::vector<TaskSummary> list(bool with_removed = false) const = 0;
  /// The same of these tasks (1,000 at most), those that are visible, without a look at the others.
  virtual std::vector<TaskSummary> list_of(const std::vector<std::string>& names) const = 0;
  /// All versions of a task, oldest first, hidden or not. Throws kNotFound with the nearest name.
  virtual std::vector<TaskSummary> log(std::string_view name) const = 0;

  /// Hides a task. Throws kNotFound with the nearest name, also where it is hidden already.
  virtual void remove(std::string_view name) = 0;
  /// Erases a task with all versions, and a shared state that no task follows any more. What other tasks have learned
  /// in a shared state since stays. Files that cannot be erased now are left for collect_garbage(), with the event
  /// store.sweep_failed. Throws kNotFound.
  virtual void purge(std::string_view name) = 0;

  /// Gives a version a name; 0: the newest one. A tag stays with its version, through removal, rollback and later
  /// versions, and goes with it when the task is purged. Returns the version. Nothing happens where it names it
  /// already.
  /// Throws  kInvalidArgument: as check_tag();  kNotFound: no such task or version;  kAlreadyExists: the task has the
  ///         tag at another version, and not `move`, or one that differs in upper and lower case only.
  virtual std::int64_t tag(std::string_view name, std::int64_t version, std::string_view tag, bool move = false) = 0;
  /// Removes a tag; the version stays. Throws kNotFound: no such task (with the nearest name) or tag.
  virtual void untag(std::string_view name, std::string_view tag) = 0;
  /// The version that a tag of a task names, hidden or not; nothing if there is none.
  virtual std::optional<std::int64_t> tagged(std::string_view name, std::string_view tag) const = 0;

  /// Stores a copy of an old version as the newest one, which it returns; a hidden task is shown again.
  /// Throws kNotFound: no such task or version;  kInvalidArgument: the task follows a shared state, which would not go
  /// back with it (use rollback_shared); its newest version is allowed, to show it again.
  virtual std::int64_t rollback(std::string_view name, std::int64_t version) = 0;
  /// Stores a copy of an old version of a shared state as the newest, which it returns. Each task that follows it goes
  /// back to its last version from that time; a task that is younger is hidden, until a rollback to a version that has
  /// it. A task that remove() has hidden stays hidden. Throws kNotFound.
  virtual std::int64_t rollback_shared(const std::string& name, std::int64_t version) = 0;

  /// The newest numbers (scope kShared) of a shared state.
  virtual std::optional<Numbers> shared(const std::string& name) const = 0;

  /// Removes files of tensors that no version names (left by a crash) and returns their bytes.
  virtual std::int64_t collect_garbage() = 0;
};

/// Tags: what check_task_name() allows, and not digits alone, which are a version's number. Throws kInvalidArgument.
void check_tag(std::string_view tag);

/// Whether a store may lie where other machines may reach it.
enum class Disk {
  kLocal,  ///< network file systems are refused, unless the environment says RECAST_NETWORK_STORE=allow
  kAny     ///< the caller knows that no other machine opens the store
};

/// When the database is checked. States and blobs are checked whenever they are loaded; whose file and tables these
/// are, when the store is opened.
enum class Verify {
  kWhole,  ///< when the store is opened, for whatever SQLite and the seals of all rows can find: O(bytes of tasks.db)
  /// When rows are read, for servers: the store opens in milliseconds, whatever it holds. Each row that is read must
  /// match its seal. What load(), resolve(), tagged() and names_after() take from the absence of a row ("no such task",
  /// "the newest version") must stand in a second index too. list() and log() show the rows that there are.
  kAsRead
};

/// The store of a model directory: `directory`/tasks.db (SQLite, docs/formats.md, "Task store") and `directory`/blobs.
/// `fingerprint`: of the model directory. read_only: an absent store counts as empty and no file is made; otherwise it
/// is created. A store of an older schema is brought up to date; read_only: in memory, as it is now.
std::unique_ptr<TaskStore> open_sqlite_store(const std::filesystem::path& directory, const std::string& fingerprint,
                                             bool read_only, Disk disk = Disk::kLocal, Verify verify = Verify::kWhole);

/// Commits a task that was exported elsewhere. A shared state that the store lacks is taken along; one that it has must
/// be bit-equal, since other tasks follow it. Throws as commit(); kShapeMismatch: the shared numbers differ.
std::int64_t import_task(TaskStore& store, const TaskRecord& task);

}  // namespace recast
