#include "task_metrics.h"

#include <algorithm>
#include <vector>

namespace recast {
namespace {

using prometheus::BuildCounter;

/// No name of a task.
constexpr const char* kOther = "(other)";
/// So many tasks are followed for each that has a series.
constexpr std::size_t kFollowed = 10;

constexpr double kNsPerSecond = 1e9;

}  // namespace

TaskMetrics::TaskMetrics(prometheus::Registry& registry, std::size_t most, std::int64_t review_every)
    : most_(most),
      review_every_(review_every),
      requests_(BuildCounter()
                    .Name("recast_task_requests_total")
                    .Help("Inference requests with rows of the task, by outcome")
                    .Register(registry)),
      rows_(BuildCounter().Name("recast_task_rows_total").Help("Rows of the task, answered").Register(registry)),
      seconds_(BuildCounter()
                   .Name("recast_task_seconds_total")
                   .Help("Seconds that its requests took, from being read to being answered")
                   .Register(registry)),
      compute_seconds_(BuildCounter()
                           .Name("recast_task_compute_seconds_total")
                           .Help("Seconds of workers for rows of the task")
                           .Register(registry)),
      other_(make({kOther, kOther})) {}

void TaskMetrics::Series::add(const Work& work) const {
  (work.failed ? failed : answered)->Increment();
  seconds->Increment(work.seconds);
  compute_seconds->Increment(work.compute_seconds);
  if (!work.failed) rows->Increment(static_cast<double>(work.rows));
}

TaskMetrics::Series TaskMetrics::make(const Key& key) {
  const prometheus::Labels task{{"base", key.first}, {"task", key.second}};
  const auto with = [&](const char* outcome) {
    prometheus::Labels labels = task;
    labels.emplace("outcome", outcome);
    return labels;
  };
  return {&requests_.Add(with("answered")), &requests_.Add(with("failed")), &rows_.Add(task), &seconds_.Add(task),
          &compute_seconds_.Add(task)};
}

void TaskMetrics::remove(const Series& series) {
  requests_.Remove(series.answered);
  requests_.Remove(series.failed);
  rows_.Remove(series.rows);
  seconds_.Remove(series.seconds);
  compute_seconds_.Remove(series.compute_seconds);
}

void TaskMetrics::add(const std::string& base, const std::string& task, const Work& work) {
  const std::lock_guard lock(mutex_);
  Use* const use = follow({base, task});
  if (use) use->recent += 1;
  (use && use->series ? *use->series : other_).add(work);
  if (++since_review_ >= review_every_) review();
}

TaskMetrics::Use* TaskMetrics::follow(const Key& key) {
  const auto found = tasks_.find(key);
  if (found != tasks_.end()) return &found->second;
  if (tasks_.size() >= most_ * kFollowed) return nullptr;
  Use& use = tasks_[key];
  if (own_series_ < most_) {
    use.series = make(key);
    ++own_series_;
  }
  return &use;
}

void TaskMetrics::review() {
  since_review_ = 0;
  std::vector<std::pair<const Key*, Use*>> with, without;
  for (auto& [key, use] : tasks_) (use.series ? with : without).emplace_back(&key, &use);
  std::ranges::sort(with, {}, [](const auto& one) { return one.second->recent; });
  std::ranges::sort(without, std::ranges::greater(), [](const auto& one) { return one.second->recent; });
  for (std::size_t i = 0; i < std::min(with.size(), without.size()); ++i) {
    if (without[i].second->recent <= 2 * with[i].second->recent) break;
    remove(*std::exchange(with[i].second->series, std::nullopt));
    without[i].second->series = make(*without[i].first);
  }
  forget_unused();
}

void TaskMetrics::forget_unused() {
  for (auto& [key, use] : tasks_) use.recent /= 2;
  std::erase_if(tasks_, [](const auto& one) { return !one.second.series && one.second.recent < 1; });
}

void count_tasks(TaskMetrics& metrics, const RequestRows& rows, const RequestTimes& times, bool failed) {
  std::map<const ServedTask*, std::int64_t> rows_of;
  for (const auto& task : rows.tasks) ++rows_of[task.get()];
  const double compute = static_cast<double>(times.input_ns + times.infer_ns) / kNsPerSecond;
  for (const auto& [task, count] : rows_of)
    metrics.add(task->base, task->name,
                {.rows = count,
                 .seconds = static_cast<double>(times.total_ns) / kNsPerSecond,
                 .compute_seconds = compute * static_cast<double>(count) / static_cast<double>(rows.rows()),
                 .failed = failed});
}

}  // namespace recast
