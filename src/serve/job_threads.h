#pragma once
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <list>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

namespace recast {

/// A few threads and jobs that wait for them, which must not throw. Callers take turns, job by job, and the jobs of one
/// are begun in their order. Threads: all calls in parallel.
class JobThreads {
 public:
  /// `waiting`: so many jobs at the most.
  JobThreads(int threads, std::size_t waiting);
  JobThreads(const JobThreads&) = delete;
  JobThreads& operator=(const JobThreads&) = delete;
  ~JobThreads();  ///< the jobs that were taken are done first, unless they were stopped

  /// False: too many wait, or they were stopped; the job was not taken.
  bool run(const std::string& caller, std::function<void()> job);
  /// Forgets the jobs that wait and waits for those that have begun. Not while another thread calls it.
  void stop();

 private:
  using Job = std::function<void()>;
  /// One caller's, never empty.
  struct Line {
    std::string caller;
    std::deque<Job> jobs;
  };

  void work();
  Job next();

  const std::size_t waiting_;
  std::mutex mutex_;
  std::condition_variable filled_;
  // Guarded by mutex_.
  std::list<Line> lines_;  // whose turn it is in front
  std::unordered_map<std::string, std::list<Line>::iterator> by_caller_;
  std::size_t jobs_ = 0;
  bool closed_ = false;
  std::vector<std::jthread> threads_;
};

}  // namespace recast
