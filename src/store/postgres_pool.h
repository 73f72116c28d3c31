#pragma once
#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "postgres.h"
#include "postgres_changes.h"
#include "postgres_rows.h"
#include "store_view.h"

namespace recast {

/// A connection and what it shows. One thread at a time.
struct PostgresSession {
  PostgresSession(const PostgresUrl& url, Postgres::Access access, const PostgresTimes& times,
                  const std::string& fingerprint, std::int64_t generation)
      : generation(generation),
        database(url, access, times),
        copy(database.is_copy()),
        tasks(database, fingerprint),
        shared(database, fingerprint),
        states(database, fingerprint),
        view(tasks, shared, states, fingerprint, url.shown) {}
  PostgresSession(const PostgresSession&) = delete;
  PostgresSession& operator=(const PostgresSession&) = delete;

  /// Whether the tables are there. Asked for until they are.
  bool ready();

  const std::int64_t generation;  ///< of PostgresChanges, before it was connected
  Postgres database;
  const bool copy;  ///< as Postgres::is_copy()
  PostgresTaskRows tasks;
  PostgresSharedRows shared;
  PostgresStateStorage states;
  StoreView view;

 private:
  bool ready_ = false;
};

/// Sessions with one database, for as many threads; opened when they are needed, and kept until who follows its changes
/// had to connect anew: of several hosts they may be with another one.
/// Threads  all calls may run in parallel; beyond the limit they wait.
class PostgresPool {
 public:
  /// `changes` outlives the pool.
  PostgresPool(PostgresUrl url, Postgres::Access access, const PostgresTimes& times, std::string fingerprint,
               std::size_t most, const PostgresChanges& changes);

  /// A session that comes back by itself, unless its connection or a transaction was left half-way.
  class Lease {
   public:
    /// Throws ConnectionLost.
    explicit Lease(PostgresPool& pool) : pool_(pool), session_(pool.take()) {}
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    ~Lease() { pool_.give_back(std::move(session_)); }
    PostgresSession* operator->() const { return session_.get(); }
    /// It does not come back.
    void drop() { session_.reset(); }

   private:
    PostgresPool& pool_;
    std::unique_ptr<PostgresSession> session_;
  };

  /// After one connection was lost: the others that lie idle are likely to be as well.
  void drop_idle();

 private:
  std::unique_ptr<PostgresSession> take();
  void give_back(std::unique_ptr<PostgresSession> session) noexcept;

  const PostgresUrl url_;
  const Postgres::Access access_;
  const PostgresTimes times_;
  const std::string fingerprint_;
  const std::size_t most_;
  const PostgresChanges& changes_;
  std::mutex mutex_;
  std::condition_variable freed_;
  // Guarded by mutex_.
  std::vector<std::unique_ptr<PostgresSession>> free_;
  std::size_t used_ = 0;
};

}  // namespace recast
