#include "shared_rows.h"

#include "recast/base/error.h"
#include "recast/base/utc.h"
#include "recast/format/printable.h"
#include "seals.h"

namespace recast {

std::int64_t SharedRows::newest(const std::string& name) const {
  Statement row(database_, "SELECT max(version) FROM shared_versions WHERE name = ?");
  return row.bind(name).step() ? row.integer(0) : 0;
}

SharedRow SharedRows::version(const SharedVersion& version) const {
  Statement row(database_, fmt::format("SELECT parent, state, {} FROM shared_versions WHERE name = ? AND version = ?",
                                       seal_holds("shared_versions"))
                               .c_str());
  if (row.bind(version.name).bind(version.version).step()) {
    row.require_seal(2);
    return {row.integer(0), row.integer(1)};
  }
  fail(Code::kNotFound, "[store] no version {} of the shared state '{}'", version.version, printable(version.name));
}

std::set<std::int64_t> SharedRows::lineage(const std::string& name, std::int64_t version) const {
  std::set<std::int64_t> versions;
  while (version > 0 && versions.insert(version).second) version = this->version({name, version}).parent;
  return versions;
}

void SharedRows::insert(const SharedVersion& version, const std::string& fingerprint, std::int64_t state) {
  const std::string now = utc_now();
  Statement(database_,
            "INSERT INTO shared_versions (name, version, parent, created_utc, fingerprint, state) "
            "VALUES (?, ?, ?, ?, ?, ?)")
      .bind(version.name)
      .bind(version.version)
      .bind(version.version - 1)
      .bind(now)
      .bind(fingerprint)
      .bind(state)
      .run();
}

void SharedRows::copy(std::int64_t from, const SharedVersion& to) {
  const std::string now = utc_now();
  Statement(database_,
            "INSERT INTO shared_versions (name, version, parent, created_utc, fingerprint, state) "
            "SELECT name, ?, version, ?, fingerprint, state FROM shared_versions WHERE name = ? AND version = ?")
      .bind(to.version)
      .bind(now)
      .bind(to.name)
      .bind(from)
      .run();
}

void SharedRows::erase_unfollowed() {
  database_.execute(
      "DELETE FROM shared_versions WHERE name NOT IN (SELECT follows FROM versions WHERE follows IS NOT NULL)");
}

}  // namespace recast
