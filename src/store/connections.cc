#include "connections.h"

#include "recast/base/error.h"
#include "recast/format/printable.h"

namespace recast {
namespace {

constexpr std::size_t kMostConnections = 8;

bool is_copy(const StoreConnection& connection) { return connection.database.path().empty(); }

}  // namespace

void StoreConnection::read(const std::function<void(const StoreView&)>& work) {
  constexpr int kAttempts = 4;
  for (int attempt = 1;; ++attempt) {
    std::int64_t seen = 0;
    try {
      const Transaction transaction(database, Database::Access::kRead);
      seen = database.data_version();
      return work(view);
    } catch (const Error& error) {
      if (error.code() != Code::kDataCorruption || attempt == kAttempts || database.data_version() == seen) throw;
    }
  }
}

void Connections::read(const std::function<void(const StoreView&)>& work) {
  for (int attempt = 1; attempt <= kAttempts; ++attempt) {
    const Lease connection(*this);
    (*connection).read(work);
    if (is_current(*connection)) return;
  }
  fail_restless();
}

Connections::Connections(std::filesystem::path path, std::function<Connection()> open)
    : path_(std::move(path)), open_(std::move(open)) {
  free_.reserve(kMostConnections);
  free_.push_back(this->open());
}

/// A connection that knows of no commit must look the same after reading as before it was opened.
bool Connections::is_current(const StoreConnection& connection) const {
  return connection.database.live() || look_at_store(path_) == connection.look;
}

Connections::Connection Connections::open() {
  const StoreLook look = look_at_store(path_);
  Connection connection = open_();
  connection->look = look;
  const std::lock_guard lock(mutex_);
  limit_ = is_copy(*connection) ? 1 : kMostConnections;
  if (connection->database.live()) {
    if (!file_.there()) file_ = look.database;
    require_same_file(path_, file_);
  }
  return connection;
}

Connections::Connection Connections::take() {
  std::unique_lock lock(mutex_);
  freed_.wait(lock, [&] { return !free_.empty() || used_ < limit_; });
  Connection connection;
  if (!free_.empty()) {
    connection = std::move(free_.back());
    free_.pop_back();
  }
  ++used_;
  lock.unlock();
  try {
    if (connection && connection->database.live()) require_same_file(path_, connection->look.database);
    if (!connection || !is_current(*connection)) connection = open();
    return connection;
  } catch (...) {
    give_back(std::move(connection));
    throw;
  }
}

void Connections::give_back(Connection connection) noexcept {
  const std::lock_guard lock(mutex_);
  --used_;
  if (connection && free_.size() < kMostConnections) free_.push_back(std::move(connection));
  freed_.notify_one();
}

void Connections::fail_restless() const {
  fail(Code::kUnavailable, "[store] {}: changes while it is read, without a log that would tell how; try again",
       printable_path(path_));
}

}  // namespace recast
