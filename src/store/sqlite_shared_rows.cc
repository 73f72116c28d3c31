#include "sqlite_shared_rows.h"

#include <fmt/format.h>

#include "recast/base/utc.h"
#include "seals.h"

namespace recast {

std::int64_t SqliteSharedRows::newest(const std::string& name) const {
  static const std::string sql =
      fmt::format("SELECT version, {} FROM shared_versions WHERE name = ? ORDER BY version DESC LIMIT 1",
                  seal_holds("shared_versions"));
  static const std::string again =
      "SELECT max(follows_version) FROM versions INDEXED BY versions_by_follows WHERE follows = ?";
  Statement row(database_, sql, kKept), followed(database_, again, kKept);
  const bool there = row.bind(name).step();
  if (there) row.require_seal(1);
  const std::int64_t newest = there ? row.integer(0) : 0;
  if (followed.bind(name).step() && followed.integer(0) > newest) {
    database_.fail_damaged("a task follows a version of a shared state that is not there");
  }
  return newest;
}

std::optional<SharedRow> SqliteSharedRows::find(const SharedVersion& version) const {
  static const std::string sql = fmt::format(
      "SELECT parent, state, {} FROM shared_versions WHERE name = ? AND version = ?", seal_holds("shared_versions"));
  Statement row(database_, sql, kKept);
  if (!row.bind(version.name).bind(version.version).step()) return {};
  row.require_seal(2);
  return SharedRow{row.integer(0), row.integer(1)};
}

void SqliteSharedRows::insert(const SharedVersion& version, const std::string& fingerprint, std::int64_t state) {
  const std::string now = utc_now();
  Statement(
      database_,
      "INSERT INTO shared_versions (name, version, parent, created_utc, fingerprint, state) VALUES (?, ?, ?, ?, ?, ?)")
      .bind(version.name)
      .bind(version.version)
      .bind(version.version - 1)
      .bind(now)
      .bind(fingerprint)
      .bind(state)
      .run();
}

void SqliteSharedRows::copy(std::int64_t from, const SharedVersion& to) {
  const std::string now = utc_now();
  Statement(database_,
            "INSERT INTO shared_versions (name, version, parent, created_utc, fingerprint, state) SELECT name, ?, "
            "version, ?, fingerprint, state FROM shared_versions WHERE name = ? AND version = ?")
      .bind(to.version)
      .bind(now)
      .bind(to.name)
      .bind(from)
      .run();
}

void SqliteSharedRows::erase_unfollowed() {
  database_.execute(
      "DELETE FROM shared_versions WHERE name NOT IN (SELECT follows FROM versions WHERE follows IS NOT NULL)");
}

}  // namespace recast
