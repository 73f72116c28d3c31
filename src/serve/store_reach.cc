#include "store_reach.h"

#include "recast/base/log.h"

namespace recast {

void StoreReach::lost(std::string_view why) {
  Clock::rep in_reach = 0;
  if (since_.compare_exchange_strong(in_reach, Clock::now().time_since_epoch().count()))
    log_event(LogLevel::kError, "serve.store_lost", {{"base", std::string_view(base_)}, {"message", why}});
}

void StoreReach::found() {
  if (since_ == 0) return;
  const double ms = std::chrono::duration<double, std::milli>(lost_for()).count();
  if (since_.exchange(0) != 0)
    log_event(LogLevel::kInfo, "serve.store_found", {{"base", std::string_view(base_)}, {"ms", ms}});
}

std::chrono::steady_clock::duration StoreReach::lost_for() const {
  const Clock::rep since = since_;
  return since == 0 ? Clock::duration::zero() : Clock::now().time_since_epoch() - Clock::duration(since);
}

}  // namespace recast
