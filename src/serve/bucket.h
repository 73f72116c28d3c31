#pragma once
#include <algorithm>
#include <chrono>

namespace recast {

/// A token bucket: `most` at once, and `per_second` more as time goes by.
class Bucket {
 public:
  using Time = std::chrono::steady_clock::time_point;
  Bucket(double most, double per_second, Time now = std::chrono::steady_clock::now())
      : most_(most), per_second_(per_second), level_(most), last_(now) {}

  bool take(Time now) {
    const double seconds = std::chrono::duration<double>(now - last_).count();
    level_ = std::min(most_, level_ + std::max(0.0, seconds) * per_second_);
    last_ = now;
    if (level_ < 1) return false;
    level_ -= 1;
    return true;
  }
  void give_back() { level_ = std::min(most_, level_ + 1); }

 private:
  double most_, per_second_, level_;
  Time last_;
};

}  // namespace recast
