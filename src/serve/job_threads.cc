#include "job_threads.h"

#include <utility>

namespace recast {

JobThreads::JobThreads(int threads, std::size_t waiting) : waiting_(waiting) {
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
  {
    const std::lock_guard lock(mutex_);
    if (closed_ || jobs_ >= waiting_) return false;
    if (const auto own = by_caller_.find(caller); own != by_caller_.end()) {
      own->second->jobs.push_back(std::move(job));
    } else {
      std::list<Line> fresh(1);
      fresh.front().caller = caller;
      fresh.front().jobs.push_back(std::move(job));
      by_caller_.emplace(caller, fresh.begin());
      lines_.splice(lines_.end(), fresh);
    }
    ++jobs_;
  }
  filled_.notify_one();
  return true;
}

void JobThreads::stop() {
  {
    std::list<Line> forgotten;  // destroyed without the lock
    const std::lock_guard lock(mutex_);
    closed_ = true;
    by_caller_.clear();
    forgotten.swap(lines_);
    jobs_ = 0;
  }
  filled_.notify_all();
  threads_.clear();
}

JobThreads::Job JobThreads::next() {
  Line& line = lines_.front();
  Job job = std::move(line.jobs.front());
  line.jobs.pop_front();
  --jobs_;
  if (line.jobs.empty()) {
    by_caller_.erase(line.caller);
    lines_.pop_front();
  } else {
    lines_.splice(lines_.end(), lines_, lines_.begin());
  }
  return job;
}

void JobThreads::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    filled_.wait(lock, [this] { return closed_ || jobs_ > 0; });
    if (jobs_ == 0) return;
    Job job = next();
    lock.unlock();
    job();
    job = nullptr;
    lock.lock();
  }
}

}  // namespace recast
