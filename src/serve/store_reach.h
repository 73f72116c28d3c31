#pragma once
#include <atomic>
#include <chrono>
#include <string>
#include <string_view>

namespace recast {

/// For how long a base's store has been out of reach, as far as anybody asked it. Says so in the log when it goes and
/// when it is back. Threads: all calls in parallel.
class StoreReach {
 public:
  explicit StoreReach(std::string base) : base_(std::move(base)) {}

  void lost(std::string_view why);
  void found();
  /// 0: it is in reach.
  std::chrono::steady_clock::duration lost_for() const;

 private:
  using Clock = std::chrono::steady_clock;

  const std::string base_;
  std::atomic<Clock::rep> since_{0};  // 0: in reach
};

}  // namespace recast
