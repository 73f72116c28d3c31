#include "postgres_changes.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <system_error>

namespace recast {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

/// Between two looks at the count, whatever was heard: a connection can be dead without a sign.
constexpr milliseconds kLookListening{10'000};
/// The same where nobody can listen.
constexpr milliseconds kLookOnly{500};
constexpr milliseconds kFirstPause{50}, kLongestPause{1'000};

/// Nobody waits for the answers of a listener, so one that takes long is as good as lost.
PostgresTimes impatient(PostgresTimes times) {
  times.statement = std::min(times.statement, std::chrono::seconds(5));
  return times;
}

/// A thread that begins meanwhile takes no signals: those are for the threads of the program.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;
  ~SignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

}  // namespace

PostgresChanges::PostgresChanges(PostgresUrl url, const PostgresTimes& times, std::string fingerprint)
    : url_(std::move(url)),
      times_(impatient(times)),
      fingerprint_(std::move(fingerprint)),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (wake_ < 0) fail(Code::kExhausted, "[store] {}: no descriptor is left to follow it with", url_.shown);
}

PostgresChanges::~PostgresChanges() {
  ::eventfd_write(wake_, 1);
  if (thread_.joinable()) thread_.join();
  ::close(wake_);
}

std::int64_t PostgresChanges::changes() {
  if (!tried_) start();
  require_reachable();
  return changes_;
}

void PostgresChanges::require_reachable() const {
  if (!away_) return;
  const std::lock_guard lock(mutex_);
  throw ConnectionLost(Code::kUnavailable, why_away_);
}

void PostgresChanges::start() {
  std::unique_lock lock(mutex_);
  if (!thread_.joinable()) {
    const SignalsBlocked for_the_new_thread;
    try {
      thread_ = std::thread([this] { run(); });
    } catch (const std::system_error& error) {
      fail(Code::kExhausted, "[store] {}: no thread is left to follow it with: {}", url_.shown, error.code().message());
    }
  }
  first_.wait(lock, [this] { return tried_.load(); });
}

void PostgresChanges::run() {
  milliseconds pause_time = kFirstPause;
  do {
    const auto begun = Clock::now();
    try {
      listen();
      return;
    } catch (const std::exception& error) {
      lost(error.what());
    }
    const bool lasted = Clock::now() - begun > kLongestPause;
    pause_time = lasted ? kFirstPause : std::min(2 * pause_time, kLongestPause);
  } while (pause(pause_time));
}

void PostgresChanges::listen() {
  const Postgres database(url_, Postgres::Access::kRead, times_);
  const bool listens = !database.is_copy();
  if (listens) database.execute(fmt::format("LISTEN {}", kChannel));
  ++generation_;
  know(count_commits(database, fingerprint_));  // what came before somebody listened
  reached();
  follow(database, listens);
}

void PostgresChanges::follow(const Postgres& database, bool listens) {
  std::array<pollfd, 2> wanted{{{PQsocket(database.handle()), POLLIN, 0}, {wake_, POLLIN, 0}}};
  const milliseconds between = listens ? kLookListening : kLookOnly;
  Clock::time_point next = Clock::now() + between;
  for (;;) {
    while (PGnotify* const heard = PQnotifies(database.handle())) {
      const std::unique_ptr<PGnotify, void (*)(void*)> owned(heard, PQfreemem);
      take(heard->extra);
    }
    const auto left = std::chrono::ceil<milliseconds>(next - Clock::now()).count();
    ::poll(wanted.data(), wanted.size(), static_cast<int>(std::max<std::int64_t>(left, 0)));
    if (wanted[1].revents != 0) return;
    if (Clock::now() >= next) {
      know(count_commits(database, fingerprint_));
      next = Clock::now() + between;
    }
    if (PQconsumeInput(database.handle()) == 0) database.fail_lost(message_of(PQerrorMessage(database.handle()), url_));
  }
}

/// Of a notification of any backbone.
void PostgresChanges::take(std::string_view payload) {
  if (!payload.starts_with(fingerprint_ + " ")) return;
  payload.remove_prefix(fingerprint_.size() + 1);
  std::int64_t count = 0;
  std::from_chars(payload.data(), payload.data() + payload.size(), count);
  know(count);
}

void PostgresChanges::know(std::int64_t count) {
  if (known_.exchange(count) != count) ++changes_;
}

void PostgresChanges::reached() {
  const std::lock_guard lock(mutex_);
  away_ = false;
  tried_ = true;
  first_.notify_all();
}

/// What is found next may be another history, which has come to the same count.
void PostgresChanges::lost(const std::string& why) {
  known_ = -1;
  const std::lock_guard lock(mutex_);
  why_away_ = why;
  away_ = true;
  tried_ = true;
  first_.notify_all();
}

std::int64_t count_commits(const Postgres& database, std::string_view fingerprint) {
  PostgresRows there = database.query("SELECT to_regclass('recast.backbones') IS NOT NULL");
  if (!there.step() || there.integer(0) == 0) return 0;
  PostgresRows row =
      database.query("SELECT changes FROM recast.backbones WHERE fingerprint = $1", PostgresValues(fingerprint));
  return row.step() ? row.integer(0) : 0;
}

bool PostgresChanges::pause(milliseconds time) {
  pollfd end{wake_, POLLIN, 0};
  return ::poll(&end, 1, static_cast<int>(time.count())) <= 0;
}

}  // namespace recast
