#pragma once
#include "schema.h"
#include "seals.h"
#include "sqlite.h"

namespace recast {

/// A transaction that changes the store, and seals what it has changed. Without commit() nothing has changed. Its owner
/// holds the store's mutex meanwhile.
class SealedTransaction {
 public:
  explicit SealedTransaction(Database& database)
      : database_(database), transaction_(database, Database::Access::kWrite) {
    require_newest_schema(database);
  }
  void commit() {
    seal_rows(database_);
    transaction_.commit();
  }

 private:
  Database& database_;
  Transaction transaction_;
};

}  // namespace recast
