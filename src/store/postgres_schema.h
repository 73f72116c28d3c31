#pragma once
#include "postgres.h"

namespace recast {

/// Makes or brings up to date the tables in the schema `recast` (docs/fleet.md). Nothing is written where they are.
/// Throws kUnsupported: a newer schema;  kUnavailable.
void prepare_for_writing(const Postgres& database);
/// Whether the tables are there. Throws  kUnsupported: a newer schema;  kUnavailable: an older one, which only who may
/// write brings up to date.
bool ready_for_reading(const Postgres& database);
/// `schema`: as a transaction has found it. Throws kUnavailable where another program has gone on since.
void require_newest_schema(const Postgres& database, std::int64_t schema);

}  // namespace recast
