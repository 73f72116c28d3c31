#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "postgres.h"

namespace recast {

/// Channel of the notifications that each commit sends: "FINGERPRINT COUNT", the count of its backbone's commits.
inline constexpr const char* kChannel = "recast";

/// Counts what is committed to the tasks of one backbone, by whomever. A thread of its own listens, from the first call
/// on. A connection that was lost counts as a change; a copy of the database that takes no listeners is asked for its
/// count of commits.
/// Threads  all calls may run in parallel.
class PostgresChanges {
 public:
  PostgresChanges(PostgresUrl url, const PostgresTimes& times, std::string fingerprint);
  PostgresChanges(const PostgresChanges&) = delete;
  PostgresChanges& operator=(const PostgresChanges&) = delete;
  /// Waits for the thread: as long as it takes to see that no connection can be made, at worst.
  ~PostgresChanges();

  /// As TaskStore::changes(). The first call waits until the database was reached, or was found out of reach. Throws
  /// ConnectionLost while it is.
  std::int64_t changes();
  /// This process has committed something.
  void count_own() { ++changes_; }
  /// Throws ConnectionLost while the thread looks for the database and does not find it: then others need not wait for
  /// connections that time out.
  void require_reachable() const;
  /// How often the thread has connected: what was connected before may be another machine.
  std::int64_t generation() const { return generation_; }
  /// The count of commits that the thread knows of; -1: none, the database is away.
  std::int64_t known() const { return known_; }

 private:
  void start();
  void run();
  void listen();
  /// Until the connection is lost, or the end.
  void follow(const Postgres& database, bool listens);
  void take(std::string_view payload);
  void know(std::int64_t count);
  void reached();
  void lost(const std::string& why);
  /// False: the end has come.
  bool pause(std::chrono::milliseconds time);

  const PostgresUrl url_;
  const PostgresTimes times_;
  const std::string fingerprint_;
  std::atomic<std::int64_t> changes_{0}, generation_{0}, known_{-1};
  std::atomic<bool> tried_{false}, away_{false};
  const int wake_;  // an eventfd: readable at the end
  mutable std::mutex mutex_;
  std::condition_variable first_;
  // Guarded by mutex_.
  std::thread thread_;
  std::string why_away_;
};

/// How many commits to the tasks of a backbone the database has.
std::int64_t count_commits(const Postgres& database, std::string_view fingerprint);

}  // namespace recast
