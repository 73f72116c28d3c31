#pragma once
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "turns.h"

namespace recast {

/// A few threads and jobs that wait for them, which must not throw. Callers take turns, job by job, and the jobs of one
/// are begun in their order. Threads: all calls in parallel.
class JobThreads {
 public:
  /// `waiting`: so many jobs at the most.
  JobThreads(int threads, std::int64_t waiting);
  JobThreads(const JobThreads&) = delete;
  JobThreads& operator=(const JobThreads&) = delete;
  ~JobThreads();  ///< the jobs that were taken are done first, unless they were stopped

  /// False: too many wait, or they were stopped; the job was not taken.
  bool run(const std::string& caller, std::function<void()> job);
  /// Forgets the jobs that wait and waits for those that have begun. Not while another thread calls it.
  void stop();

 private:
  using Job = std::function<void()>;

  void work();

  const std::int64_t waiting_;
  std::mutex mutex_;
  std::condition_variable filled_;
  // Guarded by mutex_.
  Turns<Job> jobs_;
  bool closed_ = false;
  std::vector<std::jthread> threads_;
};

}  // namespace recast
