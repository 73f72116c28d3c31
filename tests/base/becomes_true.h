#pragma once
#include <chrono>
#include <thread>

namespace recast {

/// Whether it becomes true within that time. A test that passes does not wait for its end, so the bound may be far
/// above what a slow, busy machine needs.
template <class Condition>
bool becomes_true(const Condition& condition, std::chrono::milliseconds within = std::chrono::seconds(30)) {
  const auto end = std::chrono::steady_clock::now() + within;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

}  // namespace recast
