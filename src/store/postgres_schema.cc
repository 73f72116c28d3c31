#include "postgres_schema.h"

#include <array>

#include "recast/base/log.h"
#include "recast/base/utc.h"

namespace recast {
namespace {

/// Migration i leads from schema i to schema i + 1. What is released is never edited: append. Names are ordered by
/// their bytes, and their case is that of ASCII, whatever the database's language.
constexpr std::array kMigrations{R"sql(
  CREATE TABLE recast.backbones (
    fingerprint text COLLATE "C" PRIMARY KEY,
    changes bigint NOT NULL
  );
  CREATE TABLE recast.commits (
    id text COLLATE "C" PRIMARY KEY,
    fingerprint text COLLATE "C" NOT NULL,
    what text NOT NULL,
    result bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
  );
  CREATE INDEX commits_by_time ON recast.commits (fingerprint, at);
  CREATE SEQUENCE recast.state_ids;
  CREATE TABLE recast.states (
    id bigint PRIMARY KEY,
    fingerprint text COLLATE "C" NOT NULL,
    sha256 text COLLATE "C" NOT NULL,
    seal text COLLATE "C" NOT NULL,
    file bytea NOT NULL
  );
  ALTER TABLE recast.states ALTER COLUMN file SET STORAGE EXTERNAL;
  CREATE INDEX states_by_fingerprint ON recast.states (fingerprint);
  CREATE TABLE recast.blobs (
    fingerprint text COLLATE "C" NOT NULL,
    state bigint NOT NULL REFERENCES recast.states (id) ON DELETE CASCADE,
    tensor text COLLATE "C" NOT NULL,
    shape text NOT NULL,
    bytes bigint NOT NULL,
    sha256 text COLLATE "C" NOT NULL,
    seal text COLLATE "C" NOT NULL,
    PRIMARY KEY (state, tensor)
  );
  CREATE INDEX blobs_by_content ON recast.blobs (fingerprint, sha256);
  CREATE TABLE recast.contents (
    fingerprint text COLLATE "C" NOT NULL,
    sha256 text COLLATE "C" NOT NULL,
    part bigint NOT NULL,
    bytes bytea NOT NULL,
    PRIMARY KEY (fingerprint, sha256, part)
  );
  ALTER TABLE recast.contents ALTER COLUMN bytes SET STORAGE EXTERNAL;
  CREATE TABLE recast.shared_versions (
    fingerprint text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    parent bigint NOT NULL,
    created_utc text NOT NULL,
    state bigint NOT NULL REFERENCES recast.states (id),
    seal text COLLATE "C" NOT NULL,
    PRIMARY KEY (fingerprint, name, version)
  );
  CREATE INDEX shared_versions_by_state ON recast.shared_versions (state);
  CREATE TABLE recast.tasks (
    fingerprint text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    removed_utc text,
    seal text COLLATE "C" NOT NULL,
    PRIMARY KEY (fingerprint, name)
  );
  CREATE UNIQUE INDEX tasks_without_case ON recast.tasks (fingerprint, lower(name));
  CREATE INDEX tasks_by_name ON recast.tasks (name);
  CREATE TABLE recast.versions (
    fingerprint text COLLATE "C" NOT NULL,
    task text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    parent bigint NOT NULL,
    created_utc text NOT NULL,
    follows text COLLATE "C",
    follows_version bigint,
    classes bigint NOT NULL,
    plugs text NOT NULL,
    metrics text NOT NULL,
    state_bytes bigint NOT NULL,
    file_bytes bigint NOT NULL,
    state bigint NOT NULL REFERENCES recast.states (id),
    seal text COLLATE "C" NOT NULL,
    PRIMARY KEY (fingerprint, task, version),
    FOREIGN KEY (fingerprint, task) REFERENCES recast.tasks (fingerprint, name) ON DELETE CASCADE,
    FOREIGN KEY (fingerprint, follows, follows_version)
      REFERENCES recast.shared_versions (fingerprint, name, version)
  );
  CREATE INDEX versions_by_follows ON recast.versions (fingerprint, follows, follows_version);
  CREATE INDEX versions_by_state ON recast.versions (state);
  CREATE TABLE recast.tags (
    fingerprint text COLLATE "C" NOT NULL,
    task text COLLATE "C" NOT NULL,
    tag text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    created_utc text NOT NULL,
    seal text COLLATE "C" NOT NULL,
    PRIMARY KEY (fingerprint, task, tag),
    FOREIGN KEY (fingerprint, task, version) REFERENCES recast.versions (fingerprint, task, version) ON DELETE CASCADE
  );
  CREATE UNIQUE INDEX tags_without_case ON recast.tags (fingerprint, task, lower(tag));
  CREATE INDEX tags_by_version ON recast.tags (fingerprint, task, version);
)sql"};

constexpr std::int64_t kNewest = kMigrations.size();
/// Of the lock that one who makes tables holds, so that two never do: "RCST".
constexpr std::int64_t kLock = 0x52435354;

/// 0: no tables yet.
std::int64_t schema_of(const Postgres& database) {
  PostgresRows there = database.query("SELECT to_regclass('recast.migrations') IS NOT NULL");
  if (!there.step() || there.integer(0) == 0) return 0;
  PostgresRows row = database.query("SELECT coalesce(max(number), 0) FROM recast.migrations");
  const std::int64_t schema = row.step() ? row.integer(0) : 0;
  if (schema > kNewest) {
    fail(Code::kUnsupported, "[store] {}: has schema {}, this recast knows up to {}; use a newer recast",
         database.shown(), schema, kNewest);
  }
  return schema;
}

void migrate(const Postgres& database) {
  // Held by the session, so that the transaction begins after the one that was waited for: a transaction that has begun
  // goes on believing what its server process remembers of tables that were not there.
  database.query("SELECT pg_advisory_lock($1)", PostgresValues().add(kLock));
  PostgresTransaction transaction(database, Postgres::Access::kWrite);
  const std::int64_t before = schema_of(database);
  if (before == 0) {
    database.execute(
        "CREATE SCHEMA IF NOT EXISTS recast; CREATE TABLE recast.migrations (number bigint PRIMARY KEY, applied_utc "
        "text "
        "NOT NULL)");
  }
  for (std::int64_t schema = before; schema < kNewest; ++schema) {
    database.execute(kMigrations[static_cast<std::size_t>(schema)]);
    database.query("INSERT INTO recast.migrations VALUES ($1, $2)", PostgresValues().add(schema + 1).add(utc_now()));
  }
  transaction.commit();
  database.query("SELECT pg_advisory_unlock($1)", PostgresValues().add(kLock));
  if (before != kNewest)
    log_event(LogLevel::kInfo, "store.migrated", {{"store", database.shown()}, {"from", before}, {"to", kNewest}});
}

/// Nothing that a client asks for makes commits durable where the server itself was told not to.
void warn_unless_durable(const Postgres& database) {
  for (const char* setting : {"fsync", "full_page_writes"}) {
    PostgresRows row = database.query("SELECT current_setting($1)", PostgresValues().add(setting));
    if (row.step() && row.text(0) != "on")
      log_event(LogLevel::kWarn, "store.not_durable", {{"store", database.shown()}, {"setting", setting}});
  }
}

}  // namespace

void prepare_for_writing(const Postgres& database) {
  if (schema_of(database) != kNewest) migrate(database);
  warn_unless_durable(database);
}

bool ready_for_reading(const Postgres& database) {
  const std::int64_t schema = schema_of(database);
  if (schema == kNewest || schema == 0) return schema == kNewest;
  fail(Code::kUnavailable,
       "[store] {}: has schema {}, this recast reads {}; a command of this recast that writes, 'recast tasks DIR gc' "
       "say, brings it up to date",
       database.shown(), schema, kNewest);
}

void require_newest_schema(const Postgres& database, std::int64_t schema) {
  if (schema == kNewest) return;
  fail(Code::kUnavailable, "[store] {}: was brought to schema {} by another program; open it again", database.shown(),
       schema);
}

}  // namespace recast
