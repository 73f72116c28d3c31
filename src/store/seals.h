#pragma once
#include <sqlite3.h>

#include <string>
#include <string_view>

namespace recast {

class Database;

// Every row of the store carries a seal, a SHA-256 over its table's name and its other columns (docs/formats.md, "Seals
// of rows"), so that a bit that flips in a row is found and never taken for a fact. Inside SQL it is the function
// recast_seal().

/// Makes recast_seal() known to a connection. Returns SQLite's result.
int define_seal(sqlite3* connection);

/// An SQL expression: 1 where the row's seal is right. `prefix`: "" or the table's alias with its dot.
std::string seal_holds(std::string_view table, std::string_view prefix = "");

/// Seals all rows whose seal was left empty. Inside the transaction that wrote them.
void seal_rows(Database& database);

/// Throws kDataCorruption if a row of any table has a wrong seal. Reads all rows, not the states themselves.
void check_seals(Database& database);

}  // namespace recast
