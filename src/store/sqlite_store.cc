#include <mutex>

#include "change_watch.h"
#include "connections.h"
#include "disk.h"
#include "recast/base/error.h"
#include "recast/base/log.h"
#include "recast/format/printable.h"
#include "recast/store/task_store.h"
#include "row_store.h"
#include "schema.h"
#include "sealed_transaction.h"
#include "sqlite.h"

namespace recast {
namespace {

using Access = Database::Access;

/// The store in a file. It takes the lock, and begins and ends transactions.
class SqliteStore final : public RowStore {
 public:
  /// `main`: what is written by, and read where there are no `readers`. One of them at least.
  SqliteStore(const std::filesystem::path& path, const std::string& fingerprint, bool read_only,
              std::unique_ptr<StoreConnection> main, std::unique_ptr<Connections> readers)
      : RowStore(printable_path(path), fingerprint, read_only),
        watch_(path),
        readers_(std::move(readers)),
        main_(std::move(main)) {}

  std::int64_t changes() const override;

 private:
  std::int64_t change(const Intent& intent, const Change& work) override;
  void look(const Look& work) const override;
  void purged(std::string_view name) noexcept override;

  // Both have locks of their own.
  mutable ChangeWatch watch_;
  const std::unique_ptr<Connections> readers_;
  // What it points to is guarded by mutex_.
  mutable std::mutex mutex_;
  const std::unique_ptr<StoreConnection> main_;
};

std::int64_t SqliteStore::changes() const try { return watch_.changes(); } catch (...) {
  rethrow_as_error(shown());
}

void SqliteStore::look(const Look& work) const {
  if (readers_) return readers_->read(work);
  const std::lock_guard lock(mutex_);
  main_->read(work);
}

std::int64_t SqliteStore::change(const Intent& intent, const Change& work) {
  const std::lock_guard lock(mutex_);
  Database& database = main_->database;
  database.expect_bytes(intent.bytes);
  SealedTransaction transaction(database);
  if (intent.erases) check_wholly(database);  // indexes decide what else goes
  StoreEdit edit(main_->view);
  const std::int64_t result = work(edit);
  transaction.commit();
  return result;
}

/// The task is gone; its bytes follow. What fails here is left for collect_garbage().
void SqliteStore::purged(std::string_view name) noexcept try {
  {
    const std::lock_guard lock(mutex_);
    // The log still holds the old pages; a reader in another process may keep it, then it goes with the next one.
    main_->database.execute("PRAGMA wal_checkpoint(TRUNCATE)");
  }
  collect_garbage();
} catch (const std::exception& error) {
  log_event(LogLevel::kWarn, "store.sweep_failed", {{"store", shown()}, {"task", name}, {"error", error.what()}});
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
    return std::make_unique<SqliteStore>(path, fingerprint, read_only, std::move(main), std::move(readers));
  } catch (...) {
    rethrow_as_error(printable_path(path));
  }
}

}  // namespace recast
