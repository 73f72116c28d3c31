#include "rationed_event.h"

#include <utility>

namespace recast {

void RationedEvent::log(std::initializer_list<LogField> fields, Bucket::Time now) noexcept {
  if (!logs(level_)) return;
  std::int64_t left_out = 0;
  {
    const std::lock_guard lock(mutex_);
    if (!bucket_.take(now)) {
      ++left_out_;
      return;
    }
    left_out = std::exchange(left_out_, 0);
  }
  tell(left_out);
  log_event(level_, name_, fields);
}

void RationedEvent::tell(std::int64_t left_out) const noexcept {
  if (left_out > 0) log_event(level_, "log.left_out", {{"event", name_}, {"count", left_out}});
}

}  // namespace recast
