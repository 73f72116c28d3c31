#include "job_threads.h"

#include <list>
#include <utility>

namespace recast {

JobThreads::JobThreads(int threads, std::int64_t waiting) : waiting_(waiting) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
}

JobThreads::~JobThreads() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  filled_.notify_all();
}

bool JobThreads::run(const std::string& caller, Job job) {
  std::list<Job> one;
  one.push_back(std::move(job));
  {
    const std::lock_guard lock(mutex_);
    if (closed_ || jobs_.size() >= waiting_) return false;
    jobs_.add(caller, std::move(one));
  }
  filled_.notify_one();
  return true;
}

void JobThreads::stop() {
  {
    std::list<Turns<Job>::Line> forgotten;  // destroyed without the lock
    const std::lock_guard lock(mutex_);
    closed_ = true;
    forgotten = jobs_.take_all();
  }
  filled_.notify_all();
  threads_.clear();
}

void JobThreads::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    filled_.wait(lock, [this] { return closed_ || jobs_.size() > 0; });
    if (jobs_.size() == 0) return;
    Job job = jobs_.next();
    lock.unlock();
    job();
    job = nullptr;
    lock.lock();
  }
}

}  // namespace recast
