#pragma once
#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <array>
#include <map>
#include <memory>
#include <vector>

#include "batch_runner.h"
#include "task_metrics.h"

namespace recast {

/// What operators see of the engine. Every series but those of tasks is looked up once, here: what is counted for a
/// pass or a request is atomic additions. Threads: all calls in parallel.
class EngineMetrics {
 public:
  EngineMetrics(prometheus::Registry& registry, const std::vector<std::unique_ptr<ServedBase>>& bases);

  void pass(const ServedBase& base, Way way, std::int64_t rows, double seconds);
  void request(const RequestRows& rows, const RequestTimes& times, bool failed);
  /// So many rows more, or less, wait.
  void wait(std::int64_t rows) { waiting_.Increment(static_cast<double>(rows)); }
  /// Tells how much is kept of the base's tasks now.
  void kept(const ServedBase& base);

 private:
  struct OfWay {
    prometheus::Counter &rows, &seconds;
  };
  struct OfBase {
    prometheus::Gauge &task_bytes, &weight_bytes, &tasks;
  };

  std::array<OfWay, 3> ways_;
  prometheus::Histogram& pass_rows_;
  prometheus::Counter &answered_, &failed_;
  prometheus::Gauge& waiting_;
  TaskMetrics tasks_;
  std::map<const ServedBase*, OfBase> bases_;
};

}  // namespace recast
