#pragma once
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>

#include "recast/store/task_store.h"

namespace recast {

/// The store whose `url` was given, or that of the model directory where none was (empty). The one place that decides.
/// Throws as open_postgres_store() and open_sqlite_store().
std::unique_ptr<TaskStore> open_store(const std::filesystem::path& directory, const std::string& url,
                                      const std::string& fingerprint, bool read_only, Verify verify = Verify::kWhole);

/// How messages name the store that open_store() opens: its URL without a password, or the file. Throws as
/// check_store_url().
std::string shown_store(const std::filesystem::path& directory, const std::string& url);

/// Throws kInvalidArgument unless `url` is empty or a URL that libpq can read; its text, which may hold a password, is
/// never shown.
void check_store_url(const std::string& url);
/// As check_store_url(), and where the URL holds a password: an argument is seen by every user of the machine, and
/// stands in records of the command.
void check_store_argument(const std::string& url);

/// How long a store in PostgreSQL waits.
struct PostgresTimes {
  /// For a connection to a host, 2 at least; `connect_timeout` of the URL goes before.
  std::chrono::seconds connect{5};
  std::chrono::seconds statement{60};      ///< for the answer to a statement
  std::chrono::milliseconds lock{10'000};  ///< for another writer
  /// After a connection was lost in a change: to come back, and to find out what became of it.
  std::chrono::milliseconds recovery{15'000};
};

/// The tasks of one backbone in a PostgreSQL database (docs/fleet.md). `url`: as libpq reads it,
/// postgresql://USER@HOST/DATABASE. Any number of processes, machines and backbones share the database; of the tasks of
/// other backbones nothing is seen. read_only: where the tables are not there yet, the store counts as empty; otherwise
/// they are made, and brought to the newest schema. verify: rows are checked as they are read; kAsRead reads by up to 8
/// connections at a time.
/// Beyond TaskStore:
/// Connection  one that is lost is made anew: a read is begun again once, a change until it is known to be done once
///             and only once. Where that is not found out in time, kUnavailable says "unknown" and the commit's id,
///             which stands in the table recast.commits if it was done; a commit() with a request may be repeated.
/// changes()   costs less than a microsecond: a thread of its own listens. Another process's commit is seen within a
///             second. While the database is out of reach it throws kUnavailable; then what was missed is seen.
/// Throws      kInvalidArgument: as check_store_url();  kUnavailable: no connection, or no right to do it;
///             kUnsupported: written by a newer recast.
std::unique_ptr<TaskStore> open_postgres_store(const std::string& url, const std::string& fingerprint, bool read_only,
                                               Verify verify = Verify::kWhole, const PostgresTimes& times = {});

}  // namespace recast
