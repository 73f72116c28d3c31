#include "engine_metrics.h"

namespace recast {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;

auto& rows(prometheus::Registry& registry) {
  return BuildCounter().Name("recast_rows_total").Help("Rows computed, by the way they ran").Register(registry);
}

auto& seconds(prometheus::Registry& registry) {
  return BuildCounter().Name("recast_compute_seconds_total").Help("Seconds of workers, by way").Register(registry);
}

auto& requests(prometheus::Registry& registry) {
  return BuildCounter().Name("recast_requests_total").Help("Inference requests, by outcome").Register(registry);
}

auto& passes(prometheus::Registry& registry) {
  return prometheus::BuildHistogram().Name("recast_pass_rows").Help("Rows that shared a pass").Register(registry);
}

auto& kept_ready(prometheus::Registry& registry) {
  return BuildGauge().Name("recast_kept").Help("What is kept ready").Register(registry);
}

}  // namespace

EngineMetrics::EngineMetrics(prometheus::Registry& registry, const std::vector<std::unique_ptr<ServedBase>>& bases)
    : ways_([&]() -> std::array<OfWay, 3> {
        const auto of = [&](const char* way) -> OfWay {
          return {rows(registry).Add({{"way", way}}), seconds(registry).Add({{"way", way}})};
        };
        return {of("made"), of("templates"), of("direct")};  // as Way has them
      }()),
      pass_rows_(passes(registry).Add({}, prometheus::Histogram::BucketBoundaries{1, 2, 4, 8, 16, 32, 64})),
      answered_(requests(registry).Add({{"outcome", "answered"}})),
      failed_(requests(registry).Add({{"outcome", "failed"}})),
      waiting_(kept_ready(registry).Add({{"what", "waiting_rows"}, {"base", ""}})),
      tasks_(registry) {
  for (const auto& base : bases) {
    const auto of = [&](const char* what) -> prometheus::Gauge& {
      return kept_ready(registry).Add({{"what", what}, {"base", base->name()}});
    };
    bases_.emplace(base.get(), OfBase{of("task_bytes"), of("weight_bytes"), of("tasks")});
  }
}

void EngineMetrics::pass(const ServedBase& base, Way way, std::int64_t rows, double seconds) {
  const OfWay& of = ways_[static_cast<std::size_t>(way)];
  of.rows.Increment(static_cast<double>(rows));
  of.seconds.Increment(seconds);
  pass_rows_.Observe(static_cast<double>(rows));
  kept(base);
}

void EngineMetrics::request(const RequestRows& rows, const RequestTimes& times, bool failed) {
  (failed ? failed_ : answered_).Increment();
  count_tasks(tasks_, rows, times, failed);
}

void EngineMetrics::kept(const ServedBase& base) {
  const OfBase& of = bases_.at(&base);
  of.task_bytes.Set(static_cast<double>(base.tasks().bytes()));
  of.weight_bytes.Set(static_cast<double>(base.weights().bytes()));
  of.tasks.Set(static_cast<double>(base.tasks().size()));
}

}  // namespace recast
