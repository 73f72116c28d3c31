#include "postgres_pool.h"

#include <utility>

#include "postgres_schema.h"

namespace recast {

bool PostgresSession::ready() {
  if (!ready_) ready_ = ready_for_reading(database);
  return ready_;
}

PostgresPool::PostgresPool(PostgresUrl url, Postgres::Access access, const PostgresTimes& times,
                           std::string fingerprint, std::size_t most, const PostgresChanges& changes)
    : url_(std::move(url)),
      access_(access),
      times_(times),
      fingerprint_(std::move(fingerprint)),
      most_(most),
      changes_(changes) {
  free_.reserve(most_);
}

std::unique_ptr<PostgresSession> PostgresPool::take() {
  std::unique_lock lock(mutex_);
  freed_.wait(lock, [&] { return used_ < most_; });
  ++used_;
  const std::int64_t generation = changes_.generation();
  while (!free_.empty()) {
    auto session = std::move(free_.back());
    free_.pop_back();
    if (session->generation == generation) return session;
  }
  lock.unlock();
  try {
    changes_.require_reachable();
    return std::make_unique<PostgresSession>(url_, access_, times_, fingerprint_, generation);
  } catch (...) {
    give_back(nullptr);
    throw;
  }
}

void PostgresPool::give_back(std::unique_ptr<PostgresSession> session) noexcept {
  const std::lock_guard lock(mutex_);
  --used_;
  freed_.notify_one();
  const bool whole = session && PQtransactionStatus(session->database.handle()) == PQTRANS_IDLE;
  if (whole) free_.push_back(std::move(session));
}

void PostgresPool::drop_idle() {
  std::vector<std::unique_ptr<PostgresSession>> idle;
  const std::lock_guard lock(mutex_);
  idle.swap(free_);
  free_.reserve(most_);
}

}  // namespace recast
