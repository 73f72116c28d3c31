#pragma once
#include <cstdint>
#include <initializer_list>
#include <mutex>
#include <string_view>

#include "bucket.h"
#include "recast/base/log.h"

namespace recast {

/// A log event that strangers can cause as often as they like. Twenty are logged at once, then one a second; how many
/// were left out is told before the next one and at the end (event log.left_out).
/// Threads  all calls in parallel.
class RationedEvent {
 public:
  /// `name`: of the event; a text that lives for ever.
  RationedEvent(LogLevel level, std::string_view name) : level_(level), name_(name) {}
  RationedEvent(const RationedEvent&) = delete;
  RationedEvent& operator=(const RationedEvent&) = delete;
  ~RationedEvent() { tell(left_out_); }

  void log(std::initializer_list<LogField> fields, Bucket::Time now = std::chrono::steady_clock::now()) noexcept;

 private:
  void tell(std::int64_t left_out) const noexcept;

  const LogLevel level_;
  const std::string_view name_;
  std::mutex mutex_;  // of the rest
  Bucket bucket_{20, 1};
  std::int64_t left_out_ = 0;
};

}  // namespace recast
