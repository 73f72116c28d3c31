#pragma once
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "turns.h"

namespace recast {

class Ticket;

/// A row of a request on its way.
struct WaitingRow {
  std::shared_ptr<Ticket> ticket;
  std::int64_t row = 0, bytes = 0;
  std::chrono::steady_clock::time_point since;
};

/// Rows that wait, bounded. Callers take turns row by row, and those of one caller come in their order: who sends a
/// thousand rows holds up his own. Of the room a caller with rows in it gets a fair share more at most.
/// Threads: all calls in parallel.
class WorkQueue {
 public:
  struct Limits {
    std::int64_t rows, bytes, batch;
    std::chrono::microseconds delay;
    std::int64_t workers;
  };
  explicit WorkQueue(Limits limits) : limits_(limits) {}

  /// False: full, full for this caller, or closed; nothing was taken.
  bool push(const std::shared_ptr<Ticket>& ticket, const std::string& caller, std::int64_t rows, std::int64_t bytes);
  /// Waits for rows; those that wait are shared out among the workers, so many at most as a batch takes. Empty: closed.
  std::vector<WaitingRow> take();
  void close();
  std::int64_t waiting() const;

 private:
  bool has_room(const std::string& caller, std::int64_t rows, std::int64_t bytes) const;
  std::chrono::steady_clock::time_point oldest() const;
  void wait_for_others(std::unique_lock<std::mutex>& lock);

  const Limits limits_;
  mutable std::mutex mutex_;
  std::condition_variable filled_;
  Turns<WaitingRow, &WaitingRow::bytes> rows_;
  bool closed_ = false;
};

}  // namespace recast
