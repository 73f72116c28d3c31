#pragma once
#include <prometheus/counter.h>
#include <prometheus/registry.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "ticket.h"

namespace recast {

/// What each task is used for, as series of their own for those that are used most, so many at the most, and one for
/// all others together, (other). Which have their own is looked at again from time to time: a task takes the place of
/// one that is used half as much. A series counts what came while it was there, so that all of them only ever grow.
/// Threads: all calls in parallel.
class TaskMetrics {
 public:
  /// `review_every`: requests between two looks.
  explicit TaskMetrics(prometheus::Registry& registry, std::size_t most = 100, std::int64_t review_every = 10'000);
  TaskMetrics(const TaskMetrics&) = delete;
  TaskMetrics& operator=(const TaskMetrics&) = delete;

  /// A request's work for one of its tasks.
  struct Work {
    std::int64_t rows = 0;
    double seconds = 0, compute_seconds = 0;  ///< of the whole request; of its rows
    bool failed = false;
  };
  void add(const std::string& base, const std::string& task, const Work& work);

 private:
  using Family = prometheus::Family<prometheus::Counter>;
  using Key = std::pair<std::string, std::string>;  // base, task
  struct Series {
    prometheus::Counter *answered, *failed, *rows, *seconds, *compute_seconds;
    void add(const Work& work) const;
  };
  struct Use {
    double recent = 0;  ///< requests, halved at each look
    std::optional<Series> series;
  };

  Series make(const Key& key);
  void remove(const Series& series);
  /// The task, followed from now on where there is room; null: there is none.
  Use* follow(const Key& key);
  void review();
  void forget_unused();

  const std::size_t most_;
  const std::int64_t review_every_;
  Family &requests_, &rows_, &seconds_, &compute_seconds_;
  const Series other_;

  std::mutex mutex_;  // of what follows
  std::map<Key, Use> tasks_;
  std::size_t own_series_ = 0;
  std::int64_t since_review_ = 0;
};

/// Adds an answered or failed request's work, shared out among its tasks by their rows.
void count_tasks(TaskMetrics& metrics, const RequestRows& rows, const RequestTimes& times, bool failed);

}  // namespace recast
