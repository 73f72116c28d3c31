#include "seals.h"

#include <array>
#include <new>

#include "recast/base/error.h"
#include "seal_text.h"
#include "sqlite.h"

namespace recast {
namespace {

/// SQLite passes a function eight arguments at most (kSqliteLimits), so a wide row is sealed in two steps.
struct Table {
  const char* name;
  std::array<std::string_view, 7> first;
  std::array<std::string_view, 6> second;
};

/// `states` has no `file` here: its sha256 stands for it and is checked when the state is read.
constexpr std::array kTables{
    Table{"states", {"id", "sha256"}, {}},
    Table{"blobs", {"state", "tensor", "shape", "bytes", "sha256"}, {}},
    Table{"shared_versions", {"name", "version", "parent", "created_utc", "fingerprint", "state"}, {}},
    Table{"tasks", {"name", "removed_utc"}, {}},
    Table{"versions",
          {"task", "version", "parent", "created_utc", "fingerprint", "follows", "follows_version"},
          {"classes", "plugs", "metrics", "state_bytes", "file_bytes", "state"}},
    Table{"tags", {"task", "tag", "version", "created_utc"}, {}}};

template <class Columns>
std::string arguments(const Columns& columns, std::string_view prefix) {
  std::string text;
  for (const std::string_view column : columns) {
    if (!column.empty()) text += fmt::format(", {}{}", prefix, column);
  }
  return text;
}

std::string seal_of(const Table& table, std::string_view prefix) {
  const std::string first = fmt::format("recast_seal('{}'{})", table.name, arguments(table.first, prefix));
  const std::string more = arguments(table.second, prefix);
  return more.empty() ? first : fmt::format("recast_seal({}{})", first, more);
}

void append(SealText& text, sqlite3_value* value) {
  switch (sqlite3_value_type(value)) {
    case SQLITE_NULL:
      return text.add_null();
    case SQLITE_INTEGER:
      return text.add(std::int64_t{sqlite3_value_int64(value)});
    default: {  // the tables are STRICT: nothing but texts is left
      const auto* bytes = static_cast<const char*>(sqlite3_value_blob(value));
      const auto size = static_cast<std::size_t>(sqlite3_value_bytes(value));
      if (bytes == nullptr && size > 0) throw std::bad_alloc();
      text.add(std::string_view(bytes, size));
    }
  }
}

/// No exception may pass through SQLite.
void recast_seal(sqlite3_context* context, int count, sqlite3_value** values) noexcept {
  try {
    SealText text;
    for (int i = 0; i < count; ++i) append(text, values[i]);
    const std::string seal = text.seal();
    sqlite3_result_text(context, seal.data(), static_cast<int>(seal.size()), SQLITE_TRANSIENT);
  } catch (...) {
    sqlite3_result_error_nomem(context);
  }
}

}  // namespace

int define_seal(sqlite3* connection) {
  constexpr int kFlags = SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_DIRECTONLY;
  return sqlite3_create_function_v2(connection, "recast_seal", -1, kFlags, nullptr, recast_seal, nullptr, nullptr,
                                    nullptr);
}

std::string seal_holds(std::string_view name, std::string_view prefix) {
  for (const Table& table : kTables) {
    if (name == table.name) return fmt::format("({}seal IS {})", prefix, seal_of(table, prefix));
  }
  fail(Code::kInternal, "[store] no sealed table '{}'", name);
}

void seal_rows(Database& database) {
  for (const Table& table : kTables) {
    database.execute(fmt::format("UPDATE {} SET seal = {} WHERE seal = ''", table.name, seal_of(table, "")).c_str());
  }
}

void check_seals(Database& database) {
  for (const Table& table : kTables) {
    const std::string sql = fmt::format("SELECT 1 FROM {} WHERE NOT {} LIMIT 1", table.name, seal_holds(table.name));
    if (Statement(database, sql.c_str()).step()) database.fail_damaged(fmt::format("a row of {}", table.name));
  }
}

}  // namespace recast
