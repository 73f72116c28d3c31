#pragma once
#include "sqlite.h"

namespace recast {

/// Switches to WAL and brings the tables to the newest schema; a new file gets them all.
/// Throws kUnsupported: newer schema;  kDataCorruption: not ours.
void prepare_for_writing(Database& database);
/// All tables in an empty database.
void create_schema(Database& database);
/// False: the file holds nothing yet. Throws as prepare_for_writing().
bool ready_for_reading(Database& database);

}  // namespace recast
