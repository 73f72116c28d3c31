#include "sqlite.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <new>
#include <system_error>
#include <utility>

#include "lock_holder.h"
#include "recast/base/error.h"
#include "recast/base/log.h"
#include "recast/format/printable.h"
#include "seals.h"
#include "store_errors.h"

namespace recast {
namespace {

/// The log is moved into the database when it has grown to this many pages, as SQLite does by itself.
constexpr int kCheckpointPages = 1000;
/// Of the first part of the log's index, which readers need as well.
constexpr std::int64_t kIndexBytes = 32 << 10;

/// The list of SQLite's "Defense Against The Dark Arts", as far as the store's own statements allow. A state is one
/// value, of 64 MiB of tensors and a header of at most 16 MiB (advised: 1 MB); the widest statement has 13 parameters
/// (advised: 10).
constexpr std::array<std::pair<int, int>, 11> kSqliteLimits{{{SQLITE_LIMIT_LENGTH, 128 << 20},
                                                             {SQLITE_LIMIT_SQL_LENGTH, 100'000},
                                                             {SQLITE_LIMIT_COLUMN, 100},
                                                             {SQLITE_LIMIT_EXPR_DEPTH, 10},
                                                             {SQLITE_LIMIT_COMPOUND_SELECT, 3},
                                                             {SQLITE_LIMIT_VDBE_OP, 25'000},
                                                             {SQLITE_LIMIT_FUNCTION_ARG, 8},
                                                             {SQLITE_LIMIT_ATTACHED, 0},
                                                             {SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 50},
                                                             {SQLITE_LIMIT_VARIABLE_NUMBER, 13},
                                                             {SQLITE_LIMIT_TRIGGER_DEPTH, 10}}};

constexpr std::array<std::pair<int, int>, 3> kSqliteSettings{
    {{SQLITE_DBCONFIG_DEFENSIVE, 1}, {SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0}, {SQLITE_DBCONFIG_ENABLE_FKEY, 1}}};

bool obeys(sqlite3* handle, int setting, int value) {
  int now = -1;
  return sqlite3_db_config(handle, setting, value, &now) == SQLITE_OK && now == value;
}

bool obeys_limit(sqlite3* handle, int limit, int value) {
  sqlite3_limit(handle, limit, value);
  return sqlite3_limit(handle, limit, -1) == value;
}

/// What the system said last, for results of SQLite that only say that something went wrong.
std::string with_system_reason(sqlite3* handle, const std::string& reason) {
  const int error = handle == nullptr ? 0 : sqlite3_system_errno(handle);
  return error == 0 ? reason : fmt::format("{}: {}", reason, std::generic_category().message(error));
}

/// After each commit. By itself SQLite would move the log into the database here too, and overlook an error.
int on_commit(void* sound, sqlite3* handle, const char* schema, int pages) {
  if (pages < kCheckpointPages) return SQLITE_OK;
  const int code = sqlite3_wal_checkpoint_v2(handle, schema, SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr);
  if ((code & 0xff) == SQLITE_IOERR) *static_cast<bool*>(sound) = false;
  return SQLITE_OK;  // the commit itself has reached the disk
}

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

bool is_no_room(int error) { return error == ENOSPC || error == EDQUOT; }

/// Not even the files could be made that a reader needs.
class NoRoomToRead final : public Error {
 public:
  using Error::Error;
};

bool has_log(const std::filesystem::path& path) {
  std::error_code absent;
  const auto bytes = std::filesystem::file_size(path.string() + "-wal", absent);
  return !absent && bytes > 0;
}

}  // namespace

Database::Database(const std::filesystem::path& path, Access access) : path_(path), shown_(printable_path(path)) {
  std::error_code absent;
  if (std::filesystem::is_symlink(path, absent)) {
    fail(Code::kUnsupported, "[store] {}: is a symbolic link; a store is a file of its own, beside its log", shown_);
  }
  live_ = access == Access::kWrite || !cannot_change(path);
  if (access == Access::kWrite) {
    open(path.string(), SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
  } else if (!live_) {
    open(uri_of_unchanging(path), SQLITE_OPEN_READONLY | SQLITE_OPEN_URI);
  } else {
    // A connection that may not write would leave the log's empty files behind.
    open(path.string(), SQLITE_OPEN_READWRITE);
    execute("PRAGMA query_only = ON");
  }
}

Database Database::for_reading(const std::filesystem::path& path, Lying kept) {
  try {
    return Database(path, Access::kRead);  // its settings are read back, which opens the log and its index
  } catch (const NoRoomToRead&) {
    if (has_log(path)) throw;
  }
  Database lying(printable_path(path));
  lying.path_ = path;
  lying.open(uri_of_unchanging(path), SQLITE_OPEN_READONLY | SQLITE_OPEN_URI);
  return kept == Lying::kCopied ? copy_in_memory(lying) : std::move(lying);
}

Database Database::in_memory() {
  Database database("an empty store");
  database.open(":memory:", SQLITE_OPEN_READWRITE);
  return database;
}

Database Database::copy_in_memory(const Database& database) {
  Database copy = in_memory();
  copy.shown_ = database.shown_;
  sqlite3_backup* const backup = sqlite3_backup_init(copy.handle(), "main", database.handle(), "main");
  if (backup == nullptr) copy.fail_with(sqlite3_errcode(copy.handle()));
  const int step = sqlite3_backup_step(backup, -1), finish = sqlite3_backup_finish(backup);
  if (step != SQLITE_DONE) copy.fail_with(finish != SQLITE_OK ? finish : step);
  return copy;
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
  bool good = true;
  for (const auto& [limit, value] : kSqliteLimits) good = good && obeys_limit(handle(), limit, value);
  for (const auto& [setting, value] : kSqliteSettings) good = good && obeys(handle(), setting, value);
  if (const int code = define_seal(handle()); code != SQLITE_OK) fail_with(code);
  sqlite3_wal_hook(handle(), on_commit, sound_.get());
  execute("PRAGMA cell_size_check = ON");
  execute("PRAGMA secure_delete = ON");
  execute("PRAGMA synchronous = FULL");
  for (const auto& [pragma, value] : {std::pair{"PRAGMA cell_size_check", 1},
                                      {"PRAGMA secure_delete", 1},
                                      {"PRAGMA synchronous", 2},
                                      {"PRAGMA foreign_keys", 1}}) {
    good = good && integer(pragma) == value;
  }
  if (!good) {
    fail(Code::kUnsupported,
         "[store] {}: SQLite {} does not take the settings that make commits durable and files safe to open", shown_,
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

std::int64_t Database::data_version() const {
  static const std::string sql = "PRAGMA data_version";
  Statement statement(*this, sql, kKept);
  return statement.step() ? statement.integer(0) : 0;
}

OwnedStatement Database::prepare(const char* sql) const {
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v2(handle(), sql, -1, &statement, nullptr);
  OwnedStatement owned(statement);
  if (code != SQLITE_OK) fail_with(code);
  return owned;
}

OwnedStatement Database::take(const std::string& sql) const {
  const auto found = kept_.find(sql);
  if (found == kept_.end() || !found->second) return prepare(sql.c_str());
  return std::move(found->second);
}

void Database::give_back(const std::string& sql, OwnedStatement statement) const noexcept try {
  sqlite3_reset(statement.get());
  sqlite3_clear_bindings(statement.get());
  kept_[sql] = std::move(statement);
} catch (const std::bad_alloc&) {
  // prepared again next time
}

void Database::require_sound() const {
  if (!*sound_) {
    fail(Code::kUnavailable, "[store] {}: an earlier access to the disk failed; open the store again to write", shown_);
  }
}

void Database::fail_damaged(std::string_view what) const { fail_damaged_store(shown_, what); }

void Database::fail_with(int code) const {
  const std::string reason = printable(handle_ != nullptr ? sqlite3_errmsg(handle()) : sqlite3_errstr(code), 200);
  const int error = handle_ != nullptr ? sqlite3_system_errno(handle()) : 0;
  const bool quota = code == SQLITE_IOERR_WRITE && error == EDQUOT;
  if (is_no_room(error) &&
      (code == SQLITE_IOERR_SHMSIZE || code == SQLITE_IOERR_SHMOPEN || (code & 0xff) == SQLITE_CANTOPEN)) {
    if ((code & 0xff) == SQLITE_IOERR) distrust();
    throw NoRoomToRead(
        Code::kUnavailable,
        fmt::format("[store] {}: the disk is full ({}), nothing was changed; make room for about {} bytes "
                    "and a file, and try again",
                    shown_, std::generic_category().message(error), std::max(expected_bytes_, kIndexBytes)));
  }
  switch (quota ? SQLITE_FULL : code & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_ERROR:  // the statements are fixed: they fail where tables or columns are not as they were made
      fail_damaged(reason);
    case SQLITE_BUSY:
    case SQLITE_LOCKED: {
      const auto writer = lock_holder(path_);
      log_event(LogLevel::kWarn, "store.busy",
                {{"store", shown_}, {"pid", writer.value_or(0)}, {"waited_ms", kBusyTimeoutMs}});
      fail(Code::kUnavailable,
           "[store] {}: another process is {} it{} and did not finish within {} s; wait for it, then try again", shown_,
           writer ? "writing to" : "using", writer ? fmt::format(" (process {})", *writer) : "", kBusyTimeoutMs / 1000);
    }
    case SQLITE_FULL:
      fail(Code::kUnavailable, "[store] {}: the disk is full{}, nothing was changed; make room{} and try again", shown_,
           quota ? " for this user" : "",
           expected_bytes_ > 0 ? fmt::format(" for about {} bytes", expected_bytes_) : "");
    case SQLITE_TOOBIG:
    case SQLITE_NOMEM:
      fail(Code::kExhausted, "[store] {}: {}", shown_, reason);
    case SQLITE_IOERR:
      distrust();
      [[fallthrough]];
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
      fail(Code::kUnavailable, "[store] {}: out of reach: {}", shown_, with_system_reason(handle_.get(), reason));
    default:
      fail(Code::kInternal, "[store] {}: {} (SQLite result {})", shown_, reason, code);
  }
}

Statement::Statement(const Database& database, const std::string& sql, Prepared prepared)
    : database_(database),
      kept_(prepared == Prepared::kKept ? &sql : nullptr),
      statement_(kept_ != nullptr ? database.take(sql) : database.prepare(sql.c_str())) {}

Statement::~Statement() {
  if (kept_ != nullptr) database_.give_back(*kept_, std::move(statement_));
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
  return bytes_of(column, sqlite3_column_text(statement_.get(), column));
}

std::string Statement::blob(int column) const {
  return bytes_of(column, sqlite3_column_blob(statement_.get(), column));
}

std::string Statement::bytes_of(int column, const void* bytes) const {
  if (bytes == nullptr) {  // null, empty, or no memory to hand it over in
    if (sqlite3_errcode(database_.handle()) == SQLITE_NOMEM) database_.fail_with(SQLITE_NOMEM);
    return {};
  }
  return {static_cast<const char*>(bytes), static_cast<std::size_t>(sqlite3_column_bytes(statement_.get(), column))};
}

void Statement::require_seal(int column) const {
  if (integer(column) != 1) database_.fail_damaged("a row that does not match its seal");
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
