#pragma once
#include <condition_variable>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "file_look.h"
#include "sqlite.h"
#include "sqlite_shared_rows.h"
#include "sqlite_state_storage.h"
#include "sqlite_task_rows.h"
#include "store_view.h"

namespace recast {

/// A connection and what it shows. One thread at a time.
struct StoreConnection {
  /// `blobs`: the folder.  `fingerprint`: of the model directory.
  StoreConnection(Database opened, const std::filesystem::path& blobs, const std::string& fingerprint)
      : database(std::move(opened)),
        tasks(database),
        shared(database),
        states(database, blobs),
        view(tasks, shared, states, fingerprint, database.shown()) {}
  StoreConnection(const StoreConnection&) = delete;
  StoreConnection& operator=(const StoreConnection&) = delete;

  /// Shows `work` one state of the store. Where it finds damage, and another process has committed meanwhile, that may
  /// have erased what was being read: then it begins anew.
  void read(const std::function<void(const StoreView&)>& work);

  Database database;
  SqliteTaskRows tasks;
  SqliteSharedRows shared;
  SqliteStateStorage states;
  StoreView view;
  StoreLook look;  ///< before it was opened
};

/// Connections that read one store, for as many threads; opened when they are needed and kept.
/// Threads  all calls may run in parallel; beyond the limit they wait.
class Connections {
 public:
  /// Opens one; throws what `open` throws. It may give a database that is not live: of an absent store, of a file that
  /// cannot change, or a copy. Such a one is opened again when the files of the store have changed.
  Connections(std::filesystem::path path, std::function<std::unique_ptr<StoreConnection>()> open);

  /// Throws kUnavailable too: the file was replaced.
  void read(const std::function<void(const StoreView&)>& work);

 private:
  using Connection = std::unique_ptr<StoreConnection>;
  static constexpr int kAttempts = 3;

  /// A connection that comes back by itself.
  class Lease {
   public:
    explicit Lease(Connections& home) : home_(home), connection_(home.take()) {}
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    ~Lease() { home_.give_back(std::move(connection_)); }
    StoreConnection& operator*() const { return *connection_; }

   private:
    Connections& home_;
    Connection connection_;
  };

  Connection take();
  Connection open();
  void give_back(Connection connection) noexcept;
  bool is_current(const StoreConnection& connection) const;
  [[noreturn]] void fail_restless() const;

  const std::filesystem::path path_;
  const std::function<Connection()> open_;
  std::mutex mutex_;
  std::condition_variable freed_;
  // Guarded by mutex_.
  std::vector<Connection> free_;
  std::size_t used_ = 0, limit_ = 1;
  FileLook file_;  // that all live connections have open; not there: none has
};

}  // namespace recast
