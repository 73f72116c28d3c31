#include "postgres.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <exception>
#include <new>
#include <system_error>
#include <tuple>

#include "recast/base/log.h"
#include "recast/format/printable.h"
#include "recast/format/utf8.h"
#include "store_errors.h"

namespace recast {
namespace {

using Clock = std::chrono::steady_clock;

/// Beyond the server's own limit on a statement, before the connection counts as lost.
constexpr std::chrono::seconds kGrace{2};
/// A transaction that stands still ends; one that changes rows keeps others waiting meanwhile.
constexpr const char* kIdleReading = "60s";
constexpr const char* kIdleWriting = "5s";
constexpr Oid kText = 25;

void drop_notice(void*, const PGresult*) {}

/// Big-endian, of 1, 4 or 8 bytes.
std::int64_t integer_of(std::string_view bytes) {
  std::uint64_t value = !bytes.empty() && (bytes[0] & 0x80) != 0 ? ~std::uint64_t{0} : 0;
  for (const char byte : bytes) value = value << 8 | static_cast<unsigned char>(byte);
  return static_cast<std::int64_t>(value);
}

std::string_view state_of(const PGresult* result) {
  const char* state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  return state == nullptr ? "" : state;
}

bool is_one_of(std::string_view state, std::initializer_list<std::string_view> states) {
  return std::ranges::find(states, state) != states.end();
}

/// `recast 1234 on host`, as pg_stat_activity shows it.
std::string application_name() {
  std::array<char, 65> host{};
  ::gethostname(host.data(), host.size() - 1);
  return fmt::format("recast {} on {}", ::getpid(), host.data());
}

}  // namespace

// ---- values and rows ----

PostgresValues& PostgresValues::add(std::int64_t value) {
  values_.push_back({Kind::kInteger, std::to_string(value), {}, value});
  return *this;
}

PostgresValues& PostgresValues::add(std::string_view text) {
  if (!is_utf8(text) || text.find('\0') != text.npos) return add_null();
  values_.push_back({Kind::kText, std::string(text), {}});
  return *this;
}

PostgresValues& PostgresValues::add_null() {
  values_.push_back({Kind::kNull, {}, {}});
  return *this;
}

PostgresValues& PostgresValues::add_bytes(std::string_view bytes) {
  values_.push_back({Kind::kBytes, {}, bytes});
  return *this;
}

PostgresValues& PostgresValues::add_seal(std::string_view table) {
  SealText seal;
  seal.add(table);
  for (const Value& value : values_) {
    if (value.kind == Kind::kNull) {
      seal.add_null();
    } else if (value.kind == Kind::kInteger) {
      seal.add(value.integer);
    } else {
      seal.add(std::string_view(value.text));
    }
  }
  return add(std::string_view(seal.seal()));
}

std::string_view PostgresRows::bytes(int column) const {
  return {PQgetvalue(result_.get(), row_, column), static_cast<std::size_t>(PQgetlength(result_.get(), row_, column))};
}

std::int64_t PostgresRows::integer(int column) const { return integer_of(bytes(column)); }

std::int64_t PostgresRows::changed() const {
  const std::string_view count = PQcmdTuples(result_.get());
  std::int64_t rows = 0;
  std::from_chars(count.data(), count.data() + count.size(), rows);
  return rows;
}

void PostgresRows::require_seal(std::string_view table, int first, int count) const {
  SealText seal;
  seal.add(table);
  for (int column = first; column < first + count; ++column) {
    if (is_null(column)) {
      seal.add_null();
    } else if (PQftype(result_.get(), column) == kText) {
      seal.add(bytes(column));
    } else {
      seal.add(integer(column));
    }
  }
  if (bytes(first + count) != seal.seal()) fail_damaged_store(shown_, "a row that does not match its seal");
}

// ---- the connection ----

Postgres::Postgres(const PostgresUrl& url, Access access, const PostgresTimes& times)
    : url_(url), patience_(times.statement + kGrace), handle_(nullptr, PQfinish) {
  const std::string connect = std::to_string(times.connect.count()), application = application_name();
  const char* session = access == Access::kWrite ? "read-write" : "any";
  // What stands before the URL it may change, what stands behind it it may not.
  const std::array<std::pair<const char*, const char*>, 10> options{{{"connect_timeout", connect.c_str()},
                                                                     {"keepalives_idle", "10"},
                                                                     {"keepalives_interval", "5"},
                                                                     {"keepalives_count", "3"},
                                                                     {"tcp_user_timeout", "30000"},
                                                                     {"target_session_attrs", session},
                                                                     {"dbname", url_.text.c_str()},
                                                                     {"client_encoding", "UTF8"},
                                                                     {"fallback_application_name", application.c_str()},
                                                                     {nullptr, nullptr}}};
  std::array<const char*, 10> names, values;
  for (std::size_t i = 0; i < options.size(); ++i) std::tie(names[i], values[i]) = options[i];
  handle_.reset(PQconnectdbParams(names.data(), values.data(), /*expand_dbname=*/1));
  if (!handle_) throw std::bad_alloc();
  if (!usable()) fail_lost(message_of(PQerrorMessage(handle()), url_));
  PQsetNoticeReceiver(handle(), drop_notice, nullptr);
  PQsetnonblocking(handle(), 1);
  prepare_session(times);
}

void Postgres::prepare_session(const PostgresTimes& times) const {
  using std::chrono::milliseconds;
  execute(
      fmt::format("SET search_path = pg_catalog; SET statement_timeout = {}; SET lock_timeout = {}; "
                  "SET idle_in_transaction_session_timeout = '{}'; SELECT set_config('synchronous_commit', 'on', "
                  "false) WHERE current_setting('synchronous_commit') = 'off'",
                  milliseconds(times.statement).count(), times.lock.count(), kIdleReading));
}

PostgresRows Postgres::query(const std::string& sql, const PostgresValues& values) const {
  std::vector<const char*> data;
  std::vector<int> lengths, formats;
  for (const PostgresValues::Value& value : values.values_) {
    const bool bytes = value.kind == PostgresValues::Kind::kBytes;
    data.push_back(value.kind == PostgresValues::Kind::kNull ? nullptr
                   : bytes                                   ? value.bytes.data()
                                                             : value.text.c_str());
    lengths.push_back(static_cast<int>(value.bytes.size()));
    formats.push_back(bytes ? 1 : 0);
  }
  const int count = static_cast<int>(data.size());
  if (PQsendQueryParams(handle(), sql.c_str(), count, nullptr, data.data(), lengths.data(), formats.data(), 1) == 0)
    fail_lost(message_of(PQerrorMessage(handle()), url_));
  return results();
}

PostgresRows Postgres::execute(const std::string& sql) const {
  if (PQsendQuery(handle(), sql.c_str()) == 0) fail_lost(message_of(PQerrorMessage(handle()), url_));
  return results();
}

bool Postgres::is_copy() const {
  PostgresRows row = query("SELECT pg_is_in_recovery()");
  return row.step() && row.integer(0) == 1;
}

PostgresRows Postgres::results() const {
  deadline_ = Clock::now() + patience_;
  std::optional<PostgresRows> last;
  std::exception_ptr error;
  for (;;) {
    await();
    PGresult* const result = PQgetResult(handle());
    if (result == nullptr) break;
    last.emplace(result, shown());
    const ExecStatusType status = PQresultStatus(result);
    if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || error) continue;
    try {
      fail_with(result);
    } catch (...) {
      error = std::current_exception();
    }
  }
  if (error) std::rethrow_exception(error);
  if (!last) fail_lost(message_of(PQerrorMessage(handle()), url_));
  return std::move(*last);
}

void Postgres::await() const {
  for (int flushed = PQflush(handle()); flushed != 0; flushed = PQflush(handle())) {
    if (flushed < 0) fail_lost(message_of(PQerrorMessage(handle()), url_));
    wait_for(POLLIN | POLLOUT);
    // What the server says meanwhile must be taken, or it would take no more.
    if (PQconsumeInput(handle()) == 0) return;  // PQgetResult() tells why
  }
  while (PQisBusy(handle()) != 0) {
    wait_for(POLLIN);
    if (PQconsumeInput(handle()) == 0) return;
  }
}

void Postgres::wait_for(short events) const {
  pollfd ready{PQsocket(handle()), events, 0};
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline_ - Clock::now()).count();
    if (left <= 0) fail_lost(fmt::format("no answer within {} s", patience_.count()));
    const int found = ::poll(&ready, 1, static_cast<int>(left));
    if (found > 0) return;
    if (found < 0 && errno != EINTR) fail_lost(std::generic_category().message(errno));
  }
}

void Postgres::fail_lost(std::string_view reason) const {
  throw ConnectionLost(Code::kUnavailable, fmt::format("[store] {}: out of reach: {}", shown(), reason));
}

void Postgres::fail_with(const PGresult* result) const {
  const std::string_view state = state_of(result);
  const char* primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  const std::string reason = message_of(primary != nullptr ? primary : PQresultErrorMessage(result), url_);
  // The server ends, restarts, has become one that is not written to, or ended a session that stood still.
  const bool going = is_one_of(state, {"57P01", "57P02", "57P03", "57P05", "25P03", "25006"});
  if (going || state.starts_with("08") || !usable()) fail_lost(reason);
  if (is_one_of(state, {"40001", "40P01", "23505"})) {
    throw Conflict(Code::kUnavailable,
                   fmt::format("[store] {}: others wrote at the same time ({}); try again", shown(), reason));
  }
  if (state == "55P03") throw LockedOut(Code::kUnavailable, fmt::format("[store] {}: {}", shown(), reason));
  if (state == "53100")
    fail(Code::kUnavailable, "[store] {}: its disk is full, nothing was changed; make room and try again", shown());
  if (state == "53200" || state.starts_with("54")) fail(Code::kExhausted, "[store] {}: {}", shown(), reason);
  if (state.starts_with("XX0") && state != "XX000") fail_damaged_store(shown(), reason);
  // The statements are fixed: they fail where tables or columns are not as they were made.
  if (is_one_of(state, {"42P01", "42703", "42883", "42P07", "42804", "3F000"})) {
    fail(Code::kDataCorruption,
         "[store] {}: its tables are not those that this recast makes ({}); a newer recast may "
         "have changed them",
         shown(), reason);
  }
  if (is_one_of(state, {"42501", "57014"}) || state.starts_with("53"))
    fail(Code::kUnavailable, "[store] {}: out of reach: {}", shown(), reason);
  fail(Code::kInternal, "[store] {}: {} (SQLSTATE {})", shown(), reason, state);
}

// ---- transactions ----

PostgresTransaction::PostgresTransaction(const Postgres& database, Postgres::Access access) : database_(database) {
  if (access == Postgres::Access::kRead) {
    database.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
  } else {
    database.execute(
        fmt::format("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL "
                    "idle_in_transaction_session_timeout = '{}'",
                    kIdleWriting));
  }
}

PostgresTransaction::~PostgresTransaction() {
  if (!open_ || !database_.usable()) return;
  try {
    database_.execute("ROLLBACK");
  } catch (const std::exception&) {
    // the server undoes what was begun when it sees that the connection is gone
  }
}

void PostgresTransaction::commit() {
  open_ = false;
  // The server answers so where it has undone the transaction instead.
  if (database_.execute("COMMIT").command() != "COMMIT") {
    fail(Code::kInternal, "[store] {}: a commit was refused without a reason", database_.shown());
  }
}

}  // namespace recast
