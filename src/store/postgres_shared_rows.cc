#include <fmt/format.h>

#include "postgres_rows.h"
#include "recast/base/utc.h"
#include "store_errors.h"

namespace recast {
namespace {

/// Without the seal, which comes next.
constexpr const char* kColumns = "fingerprint, name, version, parent, created_utc, state, seal";
constexpr int kWidth = 6;

}  // namespace

std::int64_t PostgresSharedRows::newest(const std::string& name) const {
  static const std::string sql = fmt::format(
      "SELECT {}, (SELECT max(follows_version) FROM recast.versions WHERE fingerprint = $1 AND follows = $2) FROM "
      "recast.shared_versions WHERE fingerprint = $1 AND name = $2 ORDER BY version DESC LIMIT 1",
      kColumns);
  PostgresRows row = database_.query(sql, PostgresValues(fingerprint_).add(name));
  if (!row.step()) return 0;
  row.require_seal("shared_versions", 0, kWidth);
  if (row.integer(kWidth + 1) > row.integer(2))
    fail_damaged_store(database_.shown(), "a task follows a version of a shared state that is not there");
  return row.integer(2);
}

std::optional<SharedRow> PostgresSharedRows::find(const SharedVersion& version) const {
  static const std::string sql = fmt::format(
      "SELECT {} FROM recast.shared_versions WHERE fingerprint = $1 AND name = $2 AND version = $3", kColumns);
  PostgresRows row = database_.query(sql, PostgresValues(fingerprint_).add(version.name).add(version.version));
  if (!row.step()) return {};
  row.require_seal("shared_versions", 0, kWidth);
  return SharedRow{row.integer(3), row.integer(5)};
}

void PostgresSharedRows::write(const SharedVersion& version, const SharedRow& row) {
  static const std::string sql =
      fmt::format("INSERT INTO recast.shared_versions ({}) VALUES ($1, $2, $3, $4, $5, $6, $7)", kColumns);
  PostgresValues values;
  values.add(fingerprint_).add(version.name).add(version.version);
  values.add(row.parent).add(utc_now()).add(row.state).add_seal("shared_versions");
  database_.query(sql, values);
}

void PostgresSharedRows::insert(const SharedVersion& version, const std::string&, std::int64_t state) {
  write(version, {version.version - 1, state});
}

void PostgresSharedRows::copy(std::int64_t from, const SharedVersion& to) {
  write(to, {from, version({to.name, from}).state});
}

void PostgresSharedRows::erase_unfollowed() {
  database_.query(
      "DELETE FROM recast.shared_versions s WHERE fingerprint = $1 AND NOT EXISTS (SELECT 1 FROM recast.versions v "
      "WHERE v.fingerprint = $1 AND v.follows = s.name)",
      PostgresValues(fingerprint_));
}

}  // namespace recast
