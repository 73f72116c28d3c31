#pragma once
#include <sqlite3.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>

namespace recast {

struct FinalizeStatement {
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using OwnedStatement = std::unique_ptr<sqlite3_stmt, FinalizeStatement>;

/// One SQLite connection with the settings that a file of our own gets. Every failure becomes an Error that names the
/// file. One thread at a time.
class Database {
 public:
  enum class Access { kRead, kWrite };
  /// What becomes of a file that is read as it lies, because no index of its log can be made.
  enum class Lying {
    kCopied,  ///< into memory: what others do to the file later does not show
    kWatched  ///< its user looks whether it changes
  };
  /// How long a lock of another process is waited for.
  static constexpr int kBusyTimeoutMs = 10'000;
  /// kWrite creates the file if need be. Throws as TaskStore.
  Database(const std::filesystem::path& path, Access access);
  /// To read from, on a full disk too: a reader needs a file for the index of the log, and where there is no room for
  /// it and no log either, this is the file as it lies.
  static Database for_reading(const std::filesystem::path& path, Lying lying = Lying::kCopied);
  /// A database of its own that exists in memory only.
  static Database in_memory();
  /// All of `database` as it is now, in memory.
  static Database copy_in_memory(const Database& database);

  sqlite3* handle() const { return handle_.get(); }
  /// Empty for one in memory.
  const std::filesystem::path& path() const { return path_; }
  const std::string& shown() const { return shown_; }
  /// Whether commits of others are seen: not in memory, nor in a file that is read as it lies.
  bool live() const { return live_; }
  /// Another number after each commit of another connection.
  std::int64_t data_version() const;
  void execute(const char* sql);
  std::int64_t integer(const char* sql);
  std::string text(const char* sql);
  /// After an input or output error nobody knows what reached the disk: writing is over until the file is reopened.
  void distrust() const { *sound_ = false; }
  void require_sound() const;
  /// For the message when the disk is full.
  void expect_bytes(std::int64_t bytes) { expected_bytes_ = bytes; }
  /// Throws what `code`, a result of SQLite, means.
  [[noreturn]] void fail_with(int code) const;
  /// kDataCorruption.
  [[noreturn]] void fail_damaged(std::string_view what) const;

 private:
  friend class Statement;
  explicit Database(std::string shown) : shown_(std::move(shown)) {}
  void open(const std::string& name, int flags);
  void harden();
  OwnedStatement prepare(const char* sql) const;
  /// A statement that was given back, or a new one.
  OwnedStatement take(const std::string& sql) const;
  void give_back(const std::string& sql, OwnedStatement statement) const noexcept;

  std::filesystem::path path_;
  std::string shown_;
  bool live_ = false;
  /// Known to SQLite by address, which a moved object must keep; it outlives the connection.
  std::unique_ptr<bool> sound_ = std::make_unique<bool>(true);
  std::unique_ptr<sqlite3, int (*)(sqlite3*)> handle_{nullptr, sqlite3_close_v2};
  std::int64_t expected_bytes_ = 0;
  /// Prepared, by their text, none in use. Behind handle_: a connection ends after its statements.
  mutable std::map<std::string, OwnedStatement> kept_;
};

/// A prepared statement; parameters are bound in order. Texts and blobs must outlive it.
class Statement {
 public:
  enum class Prepared {
    kOnce,
    kKept  ///< goes back to the connection, for the next one with the same text, which must be one of a fixed set
  };
  Statement(const Database& database, const char* sql) : database_(database), statement_(database.prepare(sql)) {}
  /// kKept: `sql` must outlive it too.
  Statement(const Database& database, const std::string& sql, Prepared prepared);
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;
  ~Statement();

  Statement& bind(std::int64_t value);
  Statement& bind(std::string_view text);
  Statement& bind_blob(std::string_view bytes);
  Statement& bind_null();
  /// The next row, or false.
  bool step();
  void run() {
    while (step()) {
    }
  }

  bool is_null(int column) const;
  std::int64_t integer(int column) const;
  std::string text(int column) const;
  std::string blob(int column) const;
  /// `column` holds seal_holds(). Throws kDataCorruption.
  void require_seal(int column) const;

 private:
  Statement& bound(int code);
  std::string bytes_of(int column, const void* bytes) const;
  const Database& database_;
  const std::string* kept_ = nullptr;
  OwnedStatement statement_;
  int bound_ = 0;
};

/// Statements that serving runs are kept; they are made of constants alone.
inline constexpr Statement::Prepared kKept = Statement::Prepared::kKept;

/// All or nothing: without commit() everything since the start is undone. kRead sees one state of the store throughout.
class Transaction {
 public:
  Transaction(Database& database, Database::Access access);
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  ~Transaction();
  void commit();

 private:
  Database& database_;
  bool open_ = true;
};

}  // namespace recast
