#include "sqlite.h"

#include <unistd.h>

#include <array>
#include <utility>

#include "recast/base/error.h"
#include "recast/format/printable.h"

namespace recast {
namespace {

constexpr int kBusyTimeoutMs = 10'000;

/// SQLite's advice for files that may have been tampered with, as far as the store's own statements allow. A state is
/// one value: 64 MiB of tensors and a header of at most 16 MiB.
constexpr std::array<std::pair<int, int>, 9> kSqliteLimits{{{SQLITE_LIMIT_LENGTH, 128 << 20},
                                                            {SQLITE_LIMIT_SQL_LENGTH, 100'000},
                                                            {SQLITE_LIMIT_COLUMN, 100},
                                                            {SQLITE_LIMIT_EXPR_DEPTH, 10},
                                                            {SQLITE_LIMIT_COMPOUND_SELECT, 3},
                                                            {SQLITE_LIMIT_FUNCTION_ARG, 8},
                                                            {SQLITE_LIMIT_ATTACHED, 0},
                                                            {SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 50},
                                                            {SQLITE_LIMIT_VARIABLE_NUMBER, 20}}};

std::string uri_of_unchanging(const std::filesystem::path& path) {
  std::string uri = "file:";
  for (const char c : path.string()) uri += fmt::format("%{:02X}", static_cast<unsigned char>(c));
  return uri + "?immutable=1";
}

/// On a read-only disk SQLite cannot make the shared-memory file that it reads a WAL database with. Nobody can write
/// there either, so the file may be read as it lies.
bool cannot_change(const std::filesystem::path& path) {
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  return ::access(folder.c_str(), W_OK) != 0 && !std::filesystem::exists(path.string() + "-wal");
}

}  // namespace

Database::Database(const std::filesystem::path& path, Access access) : shown_(printable(path.string(), 4096)) {
  if (access == Access::kWrite) {
    open(path.string(), SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
  } else if (cannot_change(path)) {
    open(uri_of_unchanging(path), SQLITE_OPEN_READONLY | SQLITE_OPEN_URI);
  } else {
    // A connection that may not write would leave the log's empty files behind.
    open(path.string(), SQLITE_OPEN_READWRITE);
    execute("PRAGMA query_only = ON");
  }
}

Database Database::in_memory() {
  Database database("an empty store");
  database.open(":memory:", SQLITE_OPEN_READWRITE);
  return database;
}

void Database::open(const std::string& name, int flags) {
  sqlite3* handle = nullptr;
  const int code = sqlite3_open_v2(name.c_str(), &handle, flags, nullptr);
  handle_.reset(handle);
  if (code != SQLITE_OK) fail_with(code);
  sqlite3_extended_result_codes(handle, 1);
  sqlite3_busy_timeout(handle, kBusyTimeoutMs);
  harden();
}

void Database::harden() {
  for (const auto& [limit, value] : kSqliteLimits) sqlite3_limit(handle(), limit, value);
  sqlite3_db_config(handle(), SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(handle(), SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  sqlite3_db_config(handle(), SQLITE_DBCONFIG_ENABLE_FKEY, 1, nullptr);
  execute("PRAGMA cell_size_check = ON");
  execute("PRAGMA secure_delete = ON");
  execute("PRAGMA synchronous = FULL");
  if (integer("PRAGMA synchronous") != 2 || integer("PRAGMA foreign_keys") != 1) {
    fail(Code::kUnsupported, "[store] {}: SQLite {} does not take the settings that make commits durable", shown_,
         sqlite3_libversion());
  }
}

void Database::execute(const char* sql) {
  const int code = sqlite3_exec(handle(), sql, nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) fail_with(code);
}

std::int64_t Database::integer(const char* sql) {
  Statement statement(*this, sql);
  return statement.step() ? statement.integer(0) : 0;
}

std::string Database::text(const char* sql) {
  Statement statement(*this, sql);
  return statement.step() ? statement.text(0) : "";
}

void Database::require_sound() const {
  if (!sound_) {
    fail(Code::kUnavailable, "[store] {}: an earlier access to the disk failed; open the store again to write", shown_);
  }
}

void Database::fail_with(int code) const {
  const std::string reason = printable(handle_ != nullptr ? sqlite3_errmsg(handle()) : sqlite3_errstr(code), 200);
  switch (code & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_ERROR:  // the statements are fixed: they fail where tables or columns are not as they were made
      fail(Code::kDataCorruption, "[store] {}: damaged, or no task store ({}); restore it from a copy", shown_, reason);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      fail(Code::kUnavailable, "[store] {}: another process is writing to it and did not finish within {} s; try again",
           shown_, kBusyTimeoutMs / 1000);
    case SQLITE_FULL:
      fail(Code::kUnavailable, "[store] {}: the disk is full, nothing was changed; make room and try again", shown_);
    case SQLITE_TOOBIG:
    case SQLITE_NOMEM:
      fail(Code::kExhausted, "[store] {}: {}", shown_, reason);
    case SQLITE_IOERR:
      sound_ = false;
      [[fallthrough]];
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
      fail(Code::kUnavailable, "[store] {}: out of reach: {}", shown_, reason);
    default:
      fail(Code::kInternal, "[store] {}: {} (SQLite result {})", shown_, reason, code);
  }
}

Statement::Statement(const Database& database, const char* sql) : database_(database) {
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v2(database.handle(), sql, -1, &statement, nullptr);
  statement_.reset(statement);
  if (code != SQLITE_OK) database_.fail_with(code);
}

Statement& Statement::bound(int code) {
  if (code != SQLITE_OK) database_.fail_with(code);
  return *this;
}

Statement& Statement::bind(std::int64_t value) { return bound(sqlite3_bind_int64(statement_.get(), ++bound_, value)); }
Statement& Statement::bind(std::string_view text) {
  return bound(sqlite3_bind_text64(statement_.get(), ++bound_, text.data(), text.size(), SQLITE_STATIC, SQLITE_UTF8));
}
Statement& Statement::bind_blob(std::string_view bytes) {
  return bound(sqlite3_bind_blob64(statement_.get(), ++bound_, bytes.data(), bytes.size(), SQLITE_STATIC));
}
Statement& Statement::bind_null() { return bound(sqlite3_bind_null(statement_.get(), ++bound_)); }

bool Statement::step() {
  const int code = sqlite3_step(statement_.get());
  if (code != SQLITE_ROW && code != SQLITE_DONE) database_.fail_with(code);
  return code == SQLITE_ROW;
}

bool Statement::is_null(int column) const { return sqlite3_column_type(statement_.get(), column) == SQLITE_NULL; }
std::int64_t Statement::integer(int column) const { return sqlite3_column_int64(statement_.get(), column); }

std::string Statement::text(int column) const {
  const auto* bytes = reinterpret_cast<const char*>(sqlite3_column_text(statement_.get(), column));
  if (bytes == nullptr) return {};
  return {bytes, static_cast<std::size_t>(sqlite3_column_bytes(statement_.get(), column))};
}

std::string Statement::blob(int column) const {
  const auto* bytes = static_cast<const char*>(sqlite3_column_blob(statement_.get(), column));
  if (bytes == nullptr) return {};
  return {bytes, static_cast<std::size_t>(sqlite3_column_bytes(statement_.get(), column))};
}

Transaction::Transaction(Database& database, Database::Access access) : database_(database) {
  if (access == Database::Access::kWrite) database.require_sound();
  database.execute(access == Database::Access::kWrite ? "BEGIN IMMEDIATE" : "BEGIN");
}

Transaction::~Transaction() {
  if (open_) sqlite3_exec(database_.handle(), "ROLLBACK", nullptr, nullptr, nullptr);
}

void Transaction::commit() {
  database_.execute("COMMIT");
  open_ = false;
}

}  // namespace recast
