#include "recast/data/visit_rows.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <limits>
#include <mutex>
#include <thread>
#include <vector>

#include "recast/base/error.h"
#include "worker_threads.h"

namespace recast {
namespace {

class Visit {
 public:
  Visit(std::int64_t rows, const VisitOptions& options, const std::function<RowVisitor()>& make_visitor)
      : rows_(rows),
        options_(options),
        threads_(std::min(options.threads, kMostReaders)),
        make_visitor_(make_visitor),
        running_(threads_) {}

  bool run() {
    if (options_.stop && *options_.stop) return false;
    settle_threads();
    std::vector<std::thread> workers;
    try {
      for (int i = 0; i < threads_; ++i) workers.emplace_back([this] { work(); });
    } catch (...) {  // no more threads to be had: those that run must end before this frame does
      fail_at(-1, std::current_exception());
      std::lock_guard lock(mutex_);
      running_ -= threads_ - static_cast<int>(workers.size());
    }
    watch();
    for (auto& worker : workers) worker.join();
    if (failure_) std::rethrow_exception(failure_);
    if (options_.progress && !halted_) options_.progress(rows_, rows_);
    return !halted_;
  }

 private:
  void watch() {
    std::unique_lock lock(mutex_);
    while (!finished_.wait_for(lock, std::chrono::milliseconds(100), [this] { return running_ == 0; })) {
      lock.unlock();
      if (options_.stop && *options_.stop) halted_ = true;
      if (options_.progress) report();
      lock.lock();
    }
  }

  void report() {
    try {
      options_.progress(std::min(next_.load(), rows_), rows_);
    } catch (...) {
      fail_at(-1, std::current_exception());
    }
  }

  void fail_at(std::int64_t row, std::exception_ptr failure) {
    std::lock_guard lock(mutex_);
    if (row < failed_row_) failed_row_ = row, failure_ = std::move(failure);
    halted_ = true;
  }

  void work() {
    own_threads(1);  // else each worker builds a team of its own
    std::int64_t row = -1;
    try {
      const RowVisitor visit = make_visitor_();
      while (!halted_ && (row = next_++) < rows_) visit(row);
    } catch (...) {
      fail_at(row, std::current_exception());
    }
    std::lock_guard lock(mutex_);
    --running_;
    finished_.notify_all();
  }

  const std::int64_t rows_;
  const VisitOptions& options_;
  const int threads_;
  const std::function<RowVisitor()>& make_visitor_;
  std::atomic<std::int64_t> next_ = 0;
  std::atomic<bool> halted_ = false;
  std::mutex mutex_;  // guards what follows
  std::condition_variable finished_;
  int running_;
  std::int64_t failed_row_ = std::numeric_limits<std::int64_t>::max();
  std::exception_ptr failure_;
};

}  // namespace

bool visit_rows(std::int64_t rows, const VisitOptions& options, const std::function<RowVisitor()>& make_visitor) {
  if (options.threads < 1) {
    fail(Code::kInvalidArgument, "[data] images are read by 1 thread or more, got {}", options.threads);
  }
  return Visit(rows, options, make_visitor).run();
}

}  // namespace recast
