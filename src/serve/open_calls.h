#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

namespace recast {

/// Something with a deadline that moves.
class TimedCall {
 public:
  using Clock = std::chrono::steady_clock;

  virtual ~TimedCall() = default;
  /// The deadline has passed. Called again and again while the call stays open.
  virtual void expired() = 0;
  /// Nobody waits for new calls any more.
  virtual void closing() = 0;

 protected:
  void expires(Clock::time_point when) { expires_ = when.time_since_epoch().count(); }

 private:
  friend class OpenCalls;
  std::atomic<Clock::rep> expires_{Clock::time_point::max().time_since_epoch().count()};
};

/// Keeps the calls that are open alive and tells those that are late, from a thread of its own.
/// Threads: all calls in parallel.
class OpenCalls {
 public:
  /// `tick`: how late a call may be told.
  OpenCalls(std::size_t most, std::chrono::milliseconds tick);
  OpenCalls(const OpenCalls&) = delete;
  OpenCalls& operator=(const OpenCalls&) = delete;
  ~OpenCalls();

  /// Whether there is room for it: less than `most` calls, and of this client no more than a fair share. It is kept in
  /// any case, and counts where there was.
  bool add(const std::shared_ptr<TimedCall>& call, const std::string& client);
  /// Not kept any more: what is returned is the last of it here.
  std::shared_ptr<TimedCall> remove(const TimedCall* call);
  /// Tells all that are open, and those that come later.
  void close();
  void wait_until_none();

 private:
  struct Entry {
    std::shared_ptr<TimedCall> call;
    std::map<std::string, std::size_t>::iterator client;  // the end: it does not count
  };

  void watch(const std::stop_token& stop);
  std::vector<std::shared_ptr<TimedCall>> late() const;

  const std::size_t most_;
  const std::chrono::milliseconds tick_;
  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  // Guarded by mutex_.
  std::unordered_map<const TimedCall*, Entry> calls_;
  std::map<std::string, std::size_t> clients_;  // how many calls of each count
  std::size_t counted_ = 0;
  bool closed_ = false;
  std::jthread thread_;
};

}  // namespace recast
