#include "schema.h"

#include <array>
#include <chrono>
#include <thread>

#include "disk.h"
#include "recast/base/error.h"
#include "recast/base/log.h"
#include "seals.h"

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
)sql",
                                 R"sql(
  CREATE TABLE tags (
    task TEXT NOT NULL,
    tag TEXT NOT NULL,
    version INTEGER NOT NULL,
    created_utc TEXT NOT NULL,
    seal TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (task, tag),
    FOREIGN KEY (task, version) REFERENCES versions (task, version) ON DELETE CASCADE
  ) STRICT, WITHOUT ROWID;
  CREATE UNIQUE INDEX tags_without_case ON tags (task, tag COLLATE NOCASE);
  CREATE INDEX tags_by_version ON tags (task, version);
  ALTER TABLE states ADD COLUMN seal TEXT NOT NULL DEFAULT '';
  ALTER TABLE blobs ADD COLUMN seal TEXT NOT NULL DEFAULT '';
  ALTER TABLE shared_versions ADD COLUMN seal TEXT NOT NULL DEFAULT '';
  ALTER TABLE tasks ADD COLUMN seal TEXT NOT NULL DEFAULT '';
  ALTER TABLE versions ADD COLUMN seal TEXT NOT NULL DEFAULT '';
  CREATE INDEX states_unsealed ON states (seal) WHERE seal = '';
  CREATE INDEX blobs_unsealed ON blobs (seal) WHERE seal = '';
  CREATE INDEX shared_versions_unsealed ON shared_versions (seal) WHERE seal = '';
  CREATE INDEX tasks_unsealed ON tasks (seal) WHERE seal = '';
  CREATE INDEX versions_unsealed ON versions (seal) WHERE seal = '';
  CREATE INDEX tags_unsealed ON tags (seal) WHERE seal = '';
)sql"};

constexpr std::int64_t kNewest = kMigrations.size();
constexpr std::int64_t kSealed = 2;                  // the schema that brought seals
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

void migrate(Database& database, std::int64_t schema, std::int64_t target) {
  if (schema == target) return;
  for (; schema < target; ++schema) database.execute(kMigrations[static_cast<std::size_t>(schema)]);
  if (target >= kSealed) seal_rows(database);
  database.execute(fmt::format("PRAGMA application_id = {}", kApplicationId).c_str());
  database.execute(fmt::format("PRAGMA user_version = {}", target).c_str());
}

/// All tables, indexes, views and triggers as they were created. What ANALYZE leaves behind changes no answer.
std::string objects_of(const Database& database) {
  Statement rows(database,
                 "SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_master WHERE name NOT GLOB 'sqlite_stat*' "
                 "ORDER BY type, name");
  std::string objects;
  while (rows.step()) {
    objects += fmt::format("{}\n{}\n{}\n{}\n", rows.text(0), rows.text(1), rows.text(2), rows.text(3));
  }
  return objects;
}

std::string objects_as_made(std::int64_t schema) {
  Database empty = Database::in_memory();
  migrate(empty, 0, schema);
  return objects_of(empty);
}

std::string expected_objects(std::int64_t schema) {
  if (schema != kNewest) return objects_as_made(schema);
  static const std::string newest = objects_as_made(kNewest);
  return newest;
}

/// Whose file it is and the tables themselves; kWhole: its structure too, and the seal of every row. An older schema is
/// read once and then sealed anew, so it is checked wholly in any case. Returns the schema.
std::int64_t check_store(Database& database, Verify verify) {
  const Transaction transaction(database, Database::Access::kRead);
  const std::int64_t schema = schema_of(database);
  if (schema == 0) return 0;
  const bool wholly = verify == Verify::kWhole || schema != kNewest;
  if (wholly) {
    if (const std::string found = database.text("PRAGMA quick_check(1)"); found != "ok") database.fail_damaged(found);
  }
  if (objects_of(database) != expected_objects(schema)) {
    database.fail_damaged("its tables are not those that recast made");
  }
  if (wholly && schema >= kSealed) check_seals(database);
  return schema;
}

[[noreturn]] void fail_other_schema(const Database& database, std::int64_t schema) {
  fail(Code::kUnavailable, "[store] {}: was brought to schema {} by another program; open it again", database.shown(),
       schema);
}

/// In this one statement SQLite waits for some of the locks of others and not for the rest: all waiting is done here.
void switch_to_wal(Database& database) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point deadline = Clock::now() + std::chrono::milliseconds(Database::kBusyTimeoutMs);
  const auto attempt = [&] {
    return sqlite3_exec(database.handle(), "PRAGMA journal_mode = WAL", nullptr, nullptr, nullptr);
  };
  sqlite3_busy_timeout(database.handle(), 0);
  int code = attempt();
  while ((code & 0xff) == SQLITE_BUSY && Clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    code = attempt();
  }
  sqlite3_busy_timeout(database.handle(), Database::kBusyTimeoutMs);
  if (code != SQLITE_OK) database.fail_with(code);
  if (database.text("PRAGMA journal_mode") == "wal") return;
  fail(Code::kUnsupported, "[store] {}: this file system cannot keep a write-ahead log; use a local disk",
       database.shown());
}

/// The log is there once the database was read, and stays while this connection does: its name, and the database's, are
/// made durable here, where an error is seen. SQLite would do it with the first commit, and overlook one.
void make_names_durable(Database& database) {
  schema_of(database);
  const std::filesystem::path folder = database.path().parent_path();
  sync_folder(folder.empty() ? "." : folder);
}

}  // namespace

void prepare_for_writing(Database& database, Verify verify) {
  const bool newest = check_store(database, verify) == kNewest;
  if (!newest || database.text("PRAGMA journal_mode") != "wal") {
    switch_to_wal(database);
    Transaction transaction(database, Database::Access::kWrite);
    const std::int64_t schema = schema_of(database);
    migrate(database, schema, kNewest);
    transaction.commit();
    if (schema != kNewest)
      log_event(LogLevel::kInfo, "store.migrated", {{"store", database.shown()}, {"from", schema}, {"to", kNewest}});
  }
  if (database.text("PRAGMA journal_mode") != "wal" || database.integer("PRAGMA synchronous") != 2) {
    fail(Code::kUnavailable, "[store] {}: the settings that make commits durable do not hold; open it again",
         database.shown());
  }
  make_names_durable(database);
}

void require_newest_schema(Database& database) {
  const std::int64_t schema = database.integer("PRAGMA user_version");
  if (schema != kNewest) fail_other_schema(database, schema);
}

void require_known_schema(Database& database) {
  const std::int64_t schema = database.integer("PRAGMA user_version");
  if (schema > kNewest) fail_other_schema(database, schema);
}

void create_schema(Database& database) {
  Transaction transaction(database, Database::Access::kWrite);
  migrate(database, 0, kNewest);
  transaction.commit();
}

std::optional<Database> ready_for_reading(Database database, Verify verify) {
  const std::int64_t schema = check_store(database, verify);
  if (schema == 0) return {};
  if (schema == kNewest) return database;
  Database copy = Database::copy_in_memory(database);
  Transaction transaction(copy, Database::Access::kWrite);
  migrate(copy, schema_of(copy), kNewest);
  transaction.commit();
  return copy;
}

void check_wholly(Database& database) {
  if (const std::string found = database.text("PRAGMA integrity_check(1)"); found != "ok") database.fail_damaged(found);
  check_seals(database);
}

}  // namespace recast
