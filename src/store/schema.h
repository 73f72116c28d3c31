#pragma once
#include <optional>

#include "recast/store/task_store.h"
#include "sqlite.h"

namespace recast {

/// Checks the file, switches to WAL and brings the tables to the newest schema; a new file gets them all.
/// Throws kUnsupported: newer schema;  kDataCorruption: damaged, or not ours;  kUnavailable.
void prepare_for_writing(Database& database, Verify verify);
/// All tables in an empty database.
void create_schema(Database& database);
/// Checks the file. One of an older schema is not changed: what comes back is a copy of it in memory, brought up to
/// date, which shows the store as it is now. Nothing: the file holds nothing yet. Throws as prepare_for_writing().
std::optional<Database> ready_for_reading(Database database, Verify verify);
/// Inside a transaction: another program may have gone on to a newer schema since the store was opened. kUnavailable.
void require_newest_schema(Database& database);
/// As require_newest_schema(), but an older one will do.
void require_known_schema(Database& database);
/// Everything that SQLite and the seals can find, indexes too. Before anything is erased for good. kDataCorruption.
void check_wholly(Database& database);

}  // namespace recast
