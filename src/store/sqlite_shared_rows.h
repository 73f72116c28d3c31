#pragma once
#include "shared_rows.h"
#include "sqlite.h"

namespace recast {

/// SharedRows in SQLite.    Owns  nothing; the database outlives it.
class SqliteSharedRows final : public SharedRows {
 public:
  explicit SqliteSharedRows(Database& database) : database_(database) {}

  std::int64_t newest(const std::string& name) const override;
  std::optional<SharedRow> find(const SharedVersion& version) const override;
  void insert(const SharedVersion& version, const std::string& fingerprint, std::int64_t state) override;
  void copy(std::int64_t from, const SharedVersion& to) override;
  void erase_unfollowed() override;

 private:
  Database& database_;
};

}  // namespace recast
