#pragma once
#include <libpq-fe.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "postgres_url.h"
#include "recast/base/error.h"
#include "recast/store/open_store.h"
#include "seal_text.h"

namespace recast {

/// kUnavailable: the connection is gone, and with it the transaction that was under way, unless its COMMIT was.
class ConnectionLost final : public Error {
 public:
  using Error::Error;
};

/// kUnavailable: the transaction was undone because of what others did at the same time; it may be begun again.
class Conflict final : public Error {
 public:
  using Error::Error;
};

/// kUnavailable: another transaction has held a lock for too long.
class LockedOut final : public Error {
 public:
  using Error::Error;
};

/// Parameters of a statement in their order.
class PostgresValues {
 public:
  PostgresValues() = default;
  explicit PostgresValues(std::string_view first) { add(first); }
  PostgresValues& add(std::int64_t value);
  /// What no text in the database can be (not UTF-8, or with a NUL) is null, which equals nothing.
  PostgresValues& add(std::string_view text);
  PostgresValues& add_null();
  /// bytea; outlives the values.
  PostgresValues& add_bytes(std::string_view bytes);
  /// The seal of a row of `table` whose other columns are all the values so far.
  PostgresValues& add_seal(std::string_view table);

 private:
  friend class Postgres;
  enum class Kind { kNull, kInteger, kText, kBytes };
  struct Value {
    Kind kind;
    std::string text;
    std::string_view bytes;
    std::int64_t integer = 0;
  };
  std::vector<Value> values_;
};

/// Rows that a statement gave, in binary form.
class PostgresRows {
 public:
  PostgresRows(PGresult* result, std::string shown) : result_(result, PQclear), shown_(std::move(shown)) {}

  /// The next row, or false.
  bool step() { return ++row_ < PQntuples(result_.get()); }
  bool is_null(int column) const { return PQgetisnull(result_.get(), row_, column) != 0; }
  /// Of bigint, integer and boolean; 0: null.
  std::int64_t integer(int column) const;
  /// Of text and bytea.
  std::string text(int column) const { return std::string(bytes(column)); }
  std::string_view bytes(int column) const;
  /// Rows that an INSERT, UPDATE or DELETE changed.
  std::int64_t changed() const;
  /// What the server says that it has done: "COMMIT".
  std::string_view command() const { return PQcmdStatus(result_.get()); }
  /// `count` columns of bigint and text from `first` on are all of a row of `table`, and the next one is its seal.
  /// Throws kDataCorruption.
  void require_seal(std::string_view table, int first, int count) const;

 private:
  std::unique_ptr<PGresult, void (*)(PGresult*)> result_;
  std::string shown_;
  int row_ = -1;
};

/// A connection to PostgreSQL, with the settings that make commits durable and waiting end. Every failure becomes an
/// Error that names the database. One thread at a time.
class Postgres {
 public:
  enum class Access {
    kRead,
    kWrite  ///< of several hosts in the URL the one that takes writes
  };
  /// Throws ConnectionLost: no connection.
  Postgres(const PostgresUrl& url, Access access, const PostgresTimes& times);

  /// One statement with parameters.
  PostgresRows query(const std::string& sql, const PostgresValues& values = {}) const;
  /// Statements without parameters, one after another.
  PostgresRows execute(const std::string& sql) const;
  /// Whether the connection can still be used.
  bool usable() const { return PQstatus(handle_.get()) == CONNECTION_OK; }
  /// For what comes without being asked for, and its socket.
  PGconn* handle() const { return handle_.get(); }
  const std::string& shown() const { return url_.shown; }
  /// A hot standby, which may lag behind the database that it follows.
  bool is_copy() const;
  /// Throws ConnectionLost; nothing of the connection can be used any more.
  [[noreturn]] void fail_lost(std::string_view reason) const;

 private:
  void prepare_session(const PostgresTimes& times) const;
  /// All results of what was sent, the last one given back.
  PostgresRows results() const;
  /// Until the next result can be had without waiting.
  void await() const;
  void wait_for(short events) const;
  [[noreturn]] void fail_with(const PGresult* result) const;

  const PostgresUrl url_;
  const std::chrono::seconds patience_;
  std::unique_ptr<PGconn, void (*)(PGconn*)> handle_;
  mutable std::chrono::steady_clock::time_point deadline_;
};

/// All or nothing: without commit() everything since the start is undone.
class PostgresTransaction {
 public:
  /// kRead: shows one state of the database throughout. kWrite: each statement sees what was committed before it.
  PostgresTransaction(const Postgres& database, Postgres::Access access);
  PostgresTransaction(const PostgresTransaction&) = delete;
  PostgresTransaction& operator=(const PostgresTransaction&) = delete;
  ~PostgresTransaction();
  void commit();

 private:
  const Postgres& database_;
  bool open_ = true;
};

}  // namespace recast
