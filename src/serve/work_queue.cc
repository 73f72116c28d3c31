#include "work_queue.h"

#include <algorithm>
#include <iterator>
#include <list>
#include <utility>

#include "fair_share.h"
#include "ticket.h"

namespace recast {

bool WorkQueue::has_room(const std::string& caller, std::int64_t rows, std::int64_t bytes) const {
  const std::int64_t rows_left = limits_.rows - rows_.size() - rows;
  const std::int64_t bytes_left = limits_.bytes - rows_.weight() - bytes;
  if (rows_left < 0 || bytes_left < 0) return false;
  const auto* own = rows_.line_of(caller);
  return !own ||
         (is_fair_share(std::ssize(own->items) + rows, rows_left) && is_fair_share(own->weight + bytes, bytes_left));
}

bool WorkQueue::push(const std::shared_ptr<Ticket>& ticket, const std::string& caller, std::int64_t rows,
                     std::int64_t bytes) {
  const auto now = std::chrono::steady_clock::now();
  std::list<WaitingRow> fresh;
  for (std::int64_t row = 0; row < rows; ++row)
    fresh.push_back({ticket, row, bytes / rows + (row < bytes % rows ? 1 : 0), now});
  {
    const std::lock_guard lock(mutex_);
    if (closed_ || !has_room(caller, rows, bytes)) return false;
    rows_.add(caller, std::move(fresh));
  }
  rows == 1 ? filled_.notify_one() : filled_.notify_all();
  return true;
}

std::chrono::steady_clock::time_point WorkQueue::oldest() const {
  const auto since = [](const auto& line) { return line.items.front().since; };
  return since(*std::ranges::min_element(rows_.lines(), {}, since));
}

void WorkQueue::wait_for_others(std::unique_lock<std::mutex>& lock) {
  while (!closed_ && rows_.size() > 0 && rows_.size() < limits_.batch) {
    const auto until = oldest() + limits_.delay;
    if (std::chrono::steady_clock::now() >= until) return;
    filled_.wait_until(lock, until);
  }
}

std::vector<WaitingRow> WorkQueue::take() {
  std::unique_lock lock(mutex_);
  while (rows_.size() == 0) {
    filled_.wait(lock, [this] { return closed_ || rows_.size() > 0; });
    if (rows_.size() == 0) return {};
    wait_for_others(lock);  // and another worker may take them meanwhile
  }
  const std::int64_t share = (rows_.size() + limits_.workers - 1) / limits_.workers;
  const std::int64_t count = std::min(limits_.batch, share);
  std::vector<WaitingRow> taken;
  taken.reserve(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) taken.push_back(rows_.next());
  return taken;
}

void WorkQueue::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  filled_.notify_all();
}

std::int64_t WorkQueue::waiting() const {
  const std::lock_guard lock(mutex_);
  return rows_.size();
}

}  // namespace recast
