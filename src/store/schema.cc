#include "schema.h"

#include <array>
#include <chrono>
#include <thread>

#include "recast/base/error.h"

namespace recast {
namespace {

/// Migration i leads from schema i to schema i + 1 (PRAGMA user_version). What is released is never edited: append.
constexpr std::array kMigrations{R"sql(
  CREATE TABLE states (
    id INTEGER PRIMARY KEY,
    file BLOB NOT NULL,
    sha256 TEXT NOT NULL
  ) STRICT;
  CREATE TABLE blobs (
    state INTEGER NOT NULL REFERENCES states (id) ON DELETE CASCADE,
    tensor TEXT NOT NULL,
    shape TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    PRIMARY KEY (state, tensor)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX blobs_by_content ON blobs (sha256);
  CREATE TABLE shared_versions (
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    parent INTEGER NOT NULL,
    created_utc TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    state INTEGER NOT NULL REFERENCES states (id),
    PRIMARY KEY (name, version)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE tasks (
    name TEXT NOT NULL PRIMARY KEY,
    removed_utc TEXT
  ) STRICT, WITHOUT ROWID;
  CREATE UNIQUE INDEX tasks_without_case ON tasks (name COLLATE NOCASE);
  CREATE TABLE versions (
    task TEXT NOT NULL REFERENCES tasks (name) ON DELETE CASCADE,
    version INTEGER NOT NULL,
    parent INTEGER NOT NULL,
    created_utc TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    follows TEXT,
    follows_version INTEGER,
    classes INTEGER NOT NULL,
    plugs TEXT NOT NULL,
    metrics TEXT NOT NULL,
    state_bytes INTEGER NOT NULL,
    file_bytes INTEGER NOT NULL,
    state INTEGER NOT NULL REFERENCES states (id),
    PRIMARY KEY (task, version),
    FOREIGN KEY (follows, follows_version) REFERENCES shared_versions (name, version)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX versions_by_follows ON versions (follows, follows_version);
  CREATE INDEX versions_by_state ON versions (state);
  CREATE INDEX shared_versions_by_state ON shared_versions (state);
)sql"};

constexpr std::int64_t kNewest = kMigrations.size();
constexpr std::int64_t kApplicationId = 0x52435354;  // "RCST"

/// The schema's number; 0 for a file that holds nothing yet. Inside a transaction: another process may be creating it.
std::int64_t schema_of(Database& database) {
  const std::int64_t application = database.integer("PRAGMA application_id");
  const std::int64_t schema = database.integer("PRAGMA user_version");
  const bool empty = database.integer("SELECT count(*) FROM sqlite_master") == 0;
  if (application == 0 && schema == 0 && empty) return 0;
  if (application != kApplicationId) {
    fail(Code::kDataCorruption, "[store] {}: a database of another program; expected a task store", database.shown());
  }
  if (schema > kNewest) {
    fail(Code::kUnsupported, "[store] {}: has schema {}, this recast knows up to {}; use a newer recast",
         database.shown(), schema, kNewest);
  }
  if (schema < 1 || empty) fail(Code::kDataCorruption, "[store] {}: a task store without its tables", database.shown());
  return schema;
}

std::int64_t schema_now(Database& database) {
  const Transaction transaction(database, Database::Access::kRead);
  return schema_of(database);
}

/// SQLite does not wait for others in this one statement.
void switch_to_wal(Database& database) {
  for (int attempt = 0;; ++attempt) {
    try {
      if (database.text("PRAGMA journal_mode = WAL") == "wal") return;
      fail(Code::kUnsupported, "[store] {}: this file system cannot keep a write-ahead log; use a local disk",
           database.shown());
    } catch (const Error& error) {
      if ((sqlite3_errcode(database.handle()) & 0xff) != SQLITE_BUSY || attempt == 1000) throw;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
}

}  // namespace

void prepare_for_writing(Database& database) {
  if (schema_now(database) == kNewest && database.text("PRAGMA journal_mode") == "wal") return;
  switch_to_wal(database);
  create_schema(database);
}

void create_schema(Database& database) {
  Transaction transaction(database, Database::Access::kWrite);
  for (std::int64_t schema = schema_of(database); schema < kNewest; ++schema) {
    database.execute(kMigrations[static_cast<std::size_t>(schema)]);
  }
  database.execute(fmt::format("PRAGMA application_id = {}", kApplicationId).c_str());
  database.execute(fmt::format("PRAGMA user_version = {}", kNewest).c_str());
  transaction.commit();
}

bool ready_for_reading(Database& database) {
  const std::int64_t schema = schema_now(database);
  if (schema == 0 || schema == kNewest) return schema != 0;
  fail(Code::kUnsupported, "[store] {}: has the older schema {}; let a command that writes bring it up to date once",
       database.shown(), schema);
}

}  // namespace recast
