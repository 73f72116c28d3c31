#pragma once
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

namespace recast {

class Ticket;

/// A row of a request on its way.
struct WaitingRow {
  std::shared_ptr<Ticket> ticket;
  std::int64_t row = 0, bytes = 0;
  std::chrono::steady_clock::time_point since;
};

/// Rows in the order in which they came, bounded. Threads: all calls in parallel.
class WorkQueue {
 public:
  struct Limits {
    std::int64_t rows, bytes, batch;
    std::chrono::microseconds delay;
    std::int64_t workers;
  };
  explicit WorkQueue(Limits limits) : limits_(limits) {}

  /// False: full or closed; nothing was taken.
  bool push(const std::shared_ptr<Ticket>& ticket, std::int64_t rows, std::int64_t bytes);
  /// Waits for rows; those that wait are shared out among the workers, so many at most as a batch takes. Empty: closed.
  std::vector<WaitingRow> take();
  void close();
  std::int64_t waiting() const;

 private:
  void wait_for_others(std::unique_lock<std::mutex>& lock);

  const Limits limits_;
  mutable std::mutex mutex_;
  std::condition_variable filled_;
  std::deque<WaitingRow> rows_;
  std::int64_t bytes_ = 0;
  bool closed_ = false;
};

}  // namespace recast
