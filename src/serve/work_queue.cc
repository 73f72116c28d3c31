#include "work_queue.h"

#include <algorithm>

#include "fair_share.h"
#include "ticket.h"

namespace recast {

bool WorkQueue::has_room(const std::string& caller, std::int64_t rows, std::int64_t bytes) const {
  const std::int64_t rows_left = limits_.rows - rows_ - rows, bytes_left = limits_.bytes - bytes_ - bytes;
  if (rows_left < 0 || bytes_left < 0) return false;
  const auto found = by_caller_.find(caller);
  if (found == by_caller_.end()) return true;
  const Line& own = *found->second;
  return is_fair_share(static_cast<std::int64_t>(own.rows.size()) + rows, rows_left) &&
         is_fair_share(own.bytes + bytes, bytes_left);
}

bool WorkQueue::push(const std::shared_ptr<Ticket>& ticket, const std::string& caller, std::int64_t rows,
                     std::int64_t bytes) {
  const auto now = std::chrono::steady_clock::now();
  std::list<Line> fresh(1, Line{caller, {}, bytes});  // whatever needs memory comes before anything changes
  for (std::int64_t row = 0; row < rows; ++row)
    fresh.front().rows.push_back({ticket, row, bytes / rows + (row < bytes % rows ? 1 : 0), now});
  {
    const std::lock_guard lock(mutex_);
    if (closed_ || !has_room(caller, rows, bytes)) return false;
    const auto [own, is_first] = by_caller_.try_emplace(caller, fresh.begin());
    if (is_first) {
      lines_.splice(lines_.end(), fresh);
    } else {
      Line& line = *own->second;
      line.rows.splice(line.rows.end(), fresh.front().rows);
      line.bytes += bytes;
    }
    rows_ += rows;
    bytes_ += bytes;
  }
  rows == 1 ? filled_.notify_one() : filled_.notify_all();
  return true;
}

WaitingRow WorkQueue::next() {
  Line& line = lines_.front();
  WaitingRow row = std::move(line.rows.front());
  line.rows.pop_front();
  line.bytes -= row.bytes;
  bytes_ -= row.bytes;
  --rows_;
  if (line.rows.empty()) {
    by_caller_.erase(line.caller);
    lines_.pop_front();
  } else {
    lines_.splice(lines_.end(), lines_, lines_.begin());
  }
  return row;
}

std::chrono::steady_clock::time_point WorkQueue::oldest() const {
  return std::ranges::min_element(lines_, {}, [](const Line& line) { return line.rows.front().since; })
      ->rows.front()
      .since;
}

void WorkQueue::wait_for_others(std::unique_lock<std::mutex>& lock) {
  while (!closed_ && rows_ > 0 && rows_ < limits_.batch) {
    const auto until = oldest() + limits_.delay;
    if (std::chrono::steady_clock::now() >= until) return;
    filled_.wait_until(lock, until);
  }
}

std::vector<WaitingRow> WorkQueue::take() {
  std::unique_lock lock(mutex_);
  while (rows_ == 0) {
    filled_.wait(lock, [this] { return closed_ || rows_ > 0; });
    if (rows_ == 0) return {};
    wait_for_others(lock);  // and another worker may take them meanwhile
  }
  const std::int64_t share = (rows_ + limits_.workers - 1) / limits_.workers;
  const std::int64_t count = std::min(limits_.batch, share);
  std::vector<WaitingRow> taken;
  taken.reserve(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) taken.push_back(next());
  return taken;
}

void WorkQueue::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  filled_.notify_all();
}

std::int64_t WorkQueue::waiting() const {
  const std::lock_guard lock(mutex_);
  return rows_;
}

}  // namespace recast
