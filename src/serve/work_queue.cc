#include "work_queue.h"

#include <algorithm>

#include "ticket.h"

namespace recast {

bool WorkQueue::push(const std::shared_ptr<Ticket>& ticket, std::int64_t rows, std::int64_t bytes) {
  const auto now = std::chrono::steady_clock::now();
  {
    const std::lock_guard lock(mutex_);
    if (closed_ || static_cast<std::int64_t>(rows_.size()) + rows > limits_.rows || bytes_ + bytes > limits_.bytes)
      return false;
    for (std::int64_t row = 0; row < rows; ++row)
      rows_.push_back({ticket, row, bytes / rows + (row < bytes % rows ? 1 : 0), now});
    bytes_ += bytes;
  }
  rows == 1 ? filled_.notify_one() : filled_.notify_all();
  return true;
}

void WorkQueue::wait_for_others(std::unique_lock<std::mutex>& lock) {
  while (!closed_ && !rows_.empty() && static_cast<std::int64_t>(rows_.size()) < limits_.batch) {
    const auto until = rows_.front().since + limits_.delay;
    if (std::chrono::steady_clock::now() >= until) return;
    filled_.wait_until(lock, until);
  }
}

std::vector<WaitingRow> WorkQueue::take() {
  std::unique_lock lock(mutex_);
  while (rows_.empty()) {
    filled_.wait(lock, [this] { return closed_ || !rows_.empty(); });
    if (rows_.empty()) return {};
    wait_for_others(lock);  // and another worker may take them meanwhile
  }
  const auto waiting = static_cast<std::int64_t>(rows_.size());
  const std::int64_t share = (waiting + limits_.workers - 1) / limits_.workers;
  std::vector<WaitingRow> taken;
  for (std::int64_t left = std::min(limits_.batch, share); left > 0; --left) {
    bytes_ -= rows_.front().bytes;
    taken.push_back(std::move(rows_.front()));
    rows_.pop_front();
  }
  return taken;
}

void WorkQueue::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  filled_.notify_all();
}

std::int64_t WorkQueue::waiting() const {
  const std::lock_guard lock(mutex_);
  return static_cast<std::int64_t>(rows_.size());
}

}  // namespace recast
