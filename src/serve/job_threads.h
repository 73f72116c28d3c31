#pragma once
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace recast {

/// A few threads and a bounded queue of jobs, which must not throw. Threads: all calls in parallel.
class JobThreads {
 public:
  JobThreads(int threads, std::size_t waiting);
  JobThreads(const JobThreads&) = delete;
  JobThreads& operator=(const JobThreads&) = delete;
  ~JobThreads();  ///< the jobs that were taken are done first

  /// False: too many wait; the job was not taken.
  bool run(std::function<void()> job);

 private:
  void work();

  const std::size_t waiting_;
  std::mutex mutex_;
  std::condition_variable filled_;
  std::deque<std::function<void()>> jobs_;
  bool closed_ = false;
  std::vector<std::jthread> threads_;
};

}  // namespace recast
