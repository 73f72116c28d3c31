#include "task_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "metric_of.h"

namespace recast {
namespace {

class TaskMetricsTest : public testing::Test {
 protected:
  static constexpr std::size_t kMost = 3;
  static constexpr std::int64_t kReview = 100;

  void use(const std::string& task, int requests = 1) {
    for (int i = 0; i < requests; ++i)
      metrics_.add("vit", task, {.rows = 2, .seconds = 0.5, .compute_seconds = 0.25, .failed = false});
  }
  double rows(const std::string& task) const { return metric_of(registry_, "recast_task_rows_total", task); }
  std::set<std::string> named() const {
    std::set<std::string> tasks;
    for (const auto& family : registry_.Collect())
      for (const auto& metric : family.metric)
        for (const auto& label : metric.label)
          if (label.name == "task") tasks.insert(label.value);
    return tasks;
  }

  prometheus::Registry registry_;
  TaskMetrics metrics_{registry_, kMost, kReview};
};

TEST_F(TaskMetricsTest, CountWhatEachTaskIsUsedFor) {
  use("cars", 3);
  metrics_.add("vit", "cars", {.rows = 7, .seconds = 1, .compute_seconds = 0.1, .failed = true});
  metrics_.add("cnn", "cars", {.rows = 1, .seconds = 1, .compute_seconds = 1, .failed = false});
  EXPECT_EQ(metric_of(registry_, "recast_task_requests_total", "answered"), 4);
  EXPECT_EQ(metric_of(registry_, "recast_task_requests_total", "failed"), 1);
  EXPECT_EQ(metric_of(registry_, "recast_task_rows_total", "vit"), 6) << "rows that failed are not answered";
  EXPECT_EQ(metric_of(registry_, "recast_task_rows_total", "cnn"), 1);
  EXPECT_EQ(metric_of(registry_, "recast_task_seconds_total", "vit"), 2.5);
  EXPECT_DOUBLE_EQ(metric_of(registry_, "recast_task_compute_seconds_total", "vit"), 0.85);
}

TEST_F(TaskMetricsTest, NameSoManyTasksAtTheMostWhateverIsAskedFor) {
  double asked = 0;
  for (int i = 0; i < 20'000; ++i, ++asked) use("task-" + std::to_string(i * 7919 % 5'000));
  EXPECT_LE(named().size(), kMost + 1) << "series without end";
  EXPECT_TRUE(named().contains("(other)"));
  double all = 0;
  for (const std::string& task : named()) all += rows(task);
  EXPECT_LE(all, 2 * asked);
  EXPECT_GT(rows("(other)"), asked) << "most of them are among the others";
}

TEST_F(TaskMetricsTest, GiveThoseThatAreUsedMostASeriesOfTheirOwn) {
  for (const char* early : {"a", "b", "c"}) use(early);
  for (int i = 0; i < 20; ++i) {
    use("hot", 10);
    use("a", 10);
    for (const char* seldom : {"b", "c", "z"}) use(seldom);
  }
  EXPECT_TRUE(named().contains("hot"));
  EXPECT_TRUE(named().contains("a"));
  EXPECT_FALSE(named().contains("z")) << "it is not used twice as much as any that has a series";
}

TEST_F(TaskMetricsTest, ThatGrowNeverFall) {
  std::map<std::string, double> last;
  for (int i = 0; i < 5'000; ++i) {
    use("task-" + std::to_string((i / 500) % 7 * 3 + i % 3));
    for (const std::string& task : named()) {
      const double now = rows(task);
      EXPECT_TRUE(last.contains(task) || now <= 2) << task << " begins with what came before";
      EXPECT_GE(now, last[task]) << task;
      last[task] = now;
    }
    std::erase_if(last, [&](const auto& one) { return !named().contains(one.first); });
  }
}

}  // namespace
}  // namespace recast
