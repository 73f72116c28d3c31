#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <new>
#include <random>
#include <thread>
#include <utility>

#include "connections.h"
#include "postgres_changes.h"
#include "postgres_pool.h"
#include "postgres_schema.h"
#include "recast/base/error.h"
#include "recast/base/log.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"
#include "recast/store/open_store.h"
#include "row_store.h"
#include "schema.h"

namespace recast {
namespace {

using Access = Postgres::Access;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr std::size_t kMostReaders = 8;
constexpr int kMostConflicts = 20;
constexpr milliseconds kLongestRetryPause{1'000};
/// How long a reader waits for a copy of the database to get what is known to be committed.
constexpr milliseconds kLongestLag{2'000};

/// 32 hexadecimal digits, drawn where the change has no key.
std::string commit_id(const Intent& intent, std::string_view fingerprint) {
  if (!intent.request.empty()) {
    return sha256_hex(fmt::format("{}\n{}\n{}\n{}", fingerprint, intent.verb, intent.name, intent.request))
        .substr(0, 32);
  }
  std::random_device random;
  return fmt::format("{:08x}{:08x}{:08x}{:08x}", random(), random(), random(), random());
}

/// 0 ms, then 50 to 100 ms, doubled each time up to a second; drawn, so that two that met do not meet again.
void pause(int attempt) {
  if (attempt == 1) return;
  std::random_device random;
  const auto longest = std::min(kLongestRetryPause, milliseconds(25 << std::min(attempt, 8)));
  std::this_thread::sleep_for(longest / 2 + milliseconds(random() % static_cast<unsigned>(longest.count())) / 2);
}

/// What a change needs over several attempts to make it.
struct Attempts {
  std::string id;        ///< of the row in `commits` that says that it was done
  bool unknown = false;  ///< a COMMIT was sent, and its answer did not come
  int count = 0, conflicts = 0;
  std::optional<Clock::time_point> lost_first = {};
};

/// kUnavailable: what answers is a copy of the database, and lacks commits that are known of.
class LaggingCopy final : public Error {
 public:
  using Error::Error;
};

/// The store in a database that others use too. It begins and ends transactions, and finds out what became of those
/// whose end was not seen.
class PostgresStore final : public RowStore {
 public:
  PostgresStore(const PostgresUrl& url, const std::string& fingerprint, bool read_only, Verify verify,
                const PostgresTimes& times)
      : RowStore(url.shown, fingerprint, read_only),
        times_(times),
        changes_(url, times, fingerprint),
        pool_(url, read_only ? Access::kRead : Access::kWrite, times, fingerprint,
              verify == Verify::kAsRead ? kMostReaders : 1, changes_) {
    const PostgresPool::Lease session(pool_);
    if (read_only) {
      session->ready();
    } else {
      prepare_for_writing(session->database);
    }
  }

  std::int64_t changes() const override { return changes_.changes(); }

 private:
  std::int64_t change(const Intent& intent, const Change& work) override;
  void look(const Look& work) const override;

  void look_once(const Look& work) const;
  void look_at_nothing(const Look& work) const;
  std::int64_t attempt(const Intent& intent, const Change& work, Attempts& attempts);
  static void commit(PostgresTransaction& transaction, Attempts& attempts);
  /// Keeps other writers of this backbone out until the transaction ends; returns the count of its commits.
  std::int64_t lock(const Postgres& database) const;
  std::optional<std::int64_t> result_of(const Postgres& database, const std::string& id) const;
  void record(const Postgres& database, const Intent& intent, const std::string& id, std::int64_t result,
              std::int64_t count) const;
  [[noreturn]] void fail_busy(const Postgres& database) const;
  /// Whether there is time for another attempt; otherwise says what is known of the change.
  void go_on_or_fail(Attempts& attempts, const Error& error) const;

  const PostgresTimes times_;
  mutable PostgresChanges changes_;
  mutable PostgresPool pool_;  // asks changes_
};

// ---- reading ----

void PostgresStore::look(const Look& work) const {
  const Clock::time_point end = Clock::now() + kLongestLag;
  bool again = false;
  for (int attempt = 1;; ++attempt) {
    try {
      return look_once(work);
    } catch (const LaggingCopy&) {
      if (Clock::now() > end) throw;
      pause(attempt);
    } catch (const ConnectionLost&) {
      if (std::exchange(again, true)) throw;
      pool_.drop_idle();
    } catch (const Conflict&) {  // on a copy of the database, of what is applied there
      if (std::exchange(again, true)) throw;
    }
  }
}

void PostgresStore::look_once(const Look& work) const {
  PostgresPool::Lease session(pool_);
  const std::int64_t known = session->copy ? changes_.known() : 0;
  if (known > 0 && count_commits(session->database, fingerprint()) < known) {
    session.drop();  // perhaps another host of the URL answers next
    throw LaggingCopy(Code::kUnavailable,
                      fmt::format("[store] {}: a copy of the database answers, and lacks what was committed last; try "
                                  "again",
                                  shown()));
  }
  if (!session->ready()) return look_at_nothing(work);
  PostgresTransaction transaction(session->database, Access::kRead);
  work(session->view);
  try {
    transaction.commit();
  } catch (const ConnectionLost&) {
    // everything has been read
  }
}

/// As a store that is not there yet: an empty one.
void PostgresStore::look_at_nothing(const Look& work) const {
  Database nothing = Database::in_memory();
  create_schema(nothing);
  StoreConnection(std::move(nothing), {}, fingerprint()).read(work);
}

// ---- writing ----

std::int64_t PostgresStore::change(const Intent& intent, const Change& work) {
  for (Attempts attempts{.id = commit_id(intent, fingerprint())};;) {
    try {
      ++attempts.count;
      const std::int64_t result = attempt(intent, work, attempts);
      changes_.count_own();
      return result;
    } catch (const Conflict& error) {
      if (++attempts.conflicts >= kMostConflicts && !attempts.unknown) throw;
      if (attempts.unknown) go_on_or_fail(attempts, error);
    } catch (const ConnectionLost& error) {
      pool_.drop_idle();
      go_on_or_fail(attempts, error);
    } catch (const Error& error) {
      if (!attempts.unknown) throw;
      go_on_or_fail(attempts, error);
    } catch (const std::bad_alloc&) {
      if (!attempts.unknown) throw;
      go_on_or_fail(attempts, Error(Code::kExhausted, fmt::format("[store] {}: not enough memory", shown())));
    }
    pause(attempts.count);
  }
}

std::int64_t PostgresStore::attempt(const Intent& intent, const Change& work, Attempts& attempts) {
  const PostgresPool::Lease session(pool_);
  const Postgres& database = session->database;
  try {
    PostgresTransaction transaction(database, Access::kWrite);
    const std::int64_t count = lock(database);
    // The lock tells that the attempts before have ended, one way or the other: those of this call, and of another one.
    if (attempts.count > 1 || !intent.request.empty()) {
      if (const auto done = result_of(database, attempts.id)) return *done;
      attempts.unknown = false;
    }
    StoreEdit edit(session->view);
    const std::int64_t result = work(edit);
    record(database, intent, attempts.id, result, count);
    commit(transaction, attempts);
    return result;
  } catch (const LockedOut&) {
    if (attempts.unknown) throw;
  }
  fail_busy(database);
}

void PostgresStore::commit(PostgresTransaction& transaction, Attempts& attempts) {
  attempts.unknown = true;
  try {
    transaction.commit();
  } catch (const ConnectionLost&) {
    throw;
  } catch (const Error&) {
    attempts.unknown = false;  // the server says that it was undone
    throw;
  }
}

std::int64_t PostgresStore::lock(const Postgres& database) const {
  PostgresRows row = database.query(
      "INSERT INTO recast.backbones AS b (fingerprint, changes) VALUES ($1, 1) ON CONFLICT (fingerprint) DO UPDATE SET "
      "changes = b.changes + 1 RETURNING changes, (SELECT max(number) FROM recast.migrations)",
      PostgresValues(fingerprint()));
  row.step();
  require_newest_schema(database, row.integer(1));
  return row.integer(0);
}

std::optional<std::int64_t> PostgresStore::result_of(const Postgres& database, const std::string& id) const {
  PostgresRows row = database.query("SELECT result FROM recast.commits WHERE id = $1", PostgresValues(id));
  if (!row.step()) return {};
  return row.integer(0);
}

void PostgresStore::record(const Postgres& database, const Intent& intent, const std::string& id, std::int64_t result,
                           std::int64_t count) const {
  PostgresValues values(id);
  values.add(fingerprint()).add(fmt::format("{} {}", intent.verb, intent.name)).add(result);
  values.add(std::string_view(kChannel)).add(fmt::format("{} {}", fingerprint(), count));
  database.query(
      "WITH old AS (DELETE FROM recast.commits WHERE fingerprint = $2 AND at < now() - interval '30 days'), done AS "
      "(INSERT INTO recast.commits (id, fingerprint, what, result) VALUES ($1, $2, $3, $4) RETURNING id) SELECT "
      "pg_notify($5, $6) FROM done",
      values);
}

void PostgresStore::fail_busy(const Postgres& database) const {
  // The row says which transaction is changing it.
  PostgresRows writer = database.query(
      "SELECT coalesce(application_name, '') FROM pg_stat_activity WHERE backend_xid = (SELECT xmax FROM "
      "recast.backbones WHERE fingerprint = $1)",
      PostgresValues(fingerprint()));
  const std::string name = writer.step() ? printable(writer.text(0)) : "";
  log_event(LogLevel::kWarn, "store.busy", {{"store", shown()}, {"writer", name}, {"waited_ms", times_.lock.count()}});
  fail(Code::kUnavailable,
       "[store] {}: another process is writing to it{} and did not finish within {} s; wait for it, then try again",
       shown(), name.empty() ? "" : fmt::format(" ({})", name), times_.lock.count() / 1000);
}

void PostgresStore::go_on_or_fail(Attempts& attempts, const Error& error) const {
  const auto now = Clock::now();
  if (!attempts.lost_first) attempts.lost_first = now;
  if (now - *attempts.lost_first < times_.recovery) return;
  if (!attempts.unknown) fail(Code::kUnavailable, "{}; nothing was changed, try again", error.what());
  fail(Code::kUnavailable,
       "{}; it was lost during a commit, and whether that was done is unknown: check id {} in the table recast.commits "
       "before you try again",
       error.what(), attempts.id);
}

}  // namespace

std::unique_ptr<TaskStore> open_postgres_store(const std::string& url, const std::string& fingerprint, bool read_only,
                                               Verify verify, const PostgresTimes& times) {
  const PostgresUrl parsed = parse_postgres_url(url);
  try {
    return std::make_unique<PostgresStore>(parsed, fingerprint, read_only, verify, times);
  } catch (...) {
    rethrow_as_error(parsed.shown);
  }
}

}  // namespace recast
