#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "format/expect_error.h"
#include "metric_of.h"
#include "serve/served_tasks.h"

namespace recast {
namespace {

using ::testing::HasSubstr;

class EngineMetricsTest : public ::testing::Test {
 protected:
  EngineMetricsTest() {
    write_toy_model(folder_ / "model");
    write_toy_images(folder_ / "data", {"blue", "green", "red"}, 12);
    learned_record(folder_ / "model", folder_ / "data", "slot", {"recast"});
    options_.directories = {folder_ / "model"};
    options_.mixing = Mixing::kGrouped;
    options_.workers = 1;
  }
  double kept(const std::string& what) const { return metric_of(registry_, "recast_kept", what); }

  TemporaryFolder folder_;
  EngineOptions options_;
  prometheus::Registry registry_;
};

TEST_F(EngineMetricsTest, TellWhatRanAndWhatIsKept) {
  const auto engine = make_engine(options_, &registry_);
  EXPECT_EQ(kept("tasks"), 0);
  send(*engine, request_for("slot", {image_file(1), image_file(2)})).get();
  EXPECT_ANY_THROW(send(*engine, request_for("slot", {"no image"})).get());
  EXPECT_EQ(metric_of(registry_, "recast_requests_total", "answered"), 1);
  EXPECT_EQ(metric_of(registry_, "recast_requests_total", "failed"), 1);
  EXPECT_EQ(metric_of(registry_, "recast_rows_total"), 2);
  EXPECT_EQ(metric_of(registry_, "recast_rows_total", "made"), 2);
  EXPECT_GT(metric_of(registry_, "recast_compute_seconds_total", "made"), 0);
  EXPECT_EQ(kept("tasks"), 1);
  EXPECT_GT(kept("task_bytes"), 0);
  EXPECT_GT(kept("weight_bytes"), 0);
  EXPECT_EQ(kept("waiting_rows"), 0);
  engine->unload("slot");
  EXPECT_EQ(kept("tasks") + kept("task_bytes") + kept("weight_bytes"), 0);
}

TEST_F(EngineMetricsTest, ShareAMixedRequestOutAmongItsTasks) {
  const ModelDirectory directory = ModelDirectory::open(folder_ / "model", false);
  directory.store().commit(varied(directory.record("slot"), "other", 2, 1));
  const auto engine = make_engine(options_, &registry_);
  const std::string image = image_file(1);
  send(*engine, mixed_request({"slot", "other", "slot"}, {image, image, image})).get();
  EXPECT_ANY_THROW(send(*engine, request_for("other", {"no image"})).get());
  EXPECT_ANY_THROW(send(*engine, request_for("unknown", {image})).get());
  const auto of = [&](const std::string& what, const std::string& task) {
    return metric_of(registry_, "recast_task_" + what + "_total", task);
  };
  EXPECT_EQ(of("rows", "slot"), 2);
  EXPECT_EQ(of("rows", "other"), 1);
  EXPECT_EQ(of("requests", "slot"), 1);
  EXPECT_EQ(of("requests", "other"), 2) << "one was answered, one failed";
  EXPECT_EQ(of("requests", "unknown"), 0) << "what is no task makes no series";
  EXPECT_GT(of("compute_seconds", "slot"), of("compute_seconds", "(other)"));
  EXPECT_EQ(of("rows", "(other)"), 0);
}

TEST_F(EngineMetricsTest, RowsOfATaskShareAPassUnlessTheyAreToHaveTheirBits) {
  const std::vector<std::string> images(8, image_file(1));
  const auto grouped = make_engine(options_, &registry_);
  send(*grouped, request_for("slot", images)).get();
  EXPECT_EQ(metric_of(registry_, "recast_pass_rows"), 8);

  prometheus::Registry other;
  options_.mixing = Mixing::kAuto;
  const auto automatic = make_engine(options_, &other);
  for (int request = 1; request <= 5; ++request) {
    send(*automatic, request_for("slot", images)).get();
    EXPECT_EQ(metric_of(other, "recast_pass_rows"), request);
  }
  EXPECT_GT(metric_of(other, "recast_rows_total", "templates"), 0);
  EXPECT_GT(metric_of(other, "recast_rows_total", "made"), 0);
}

TEST_F(EngineMetricsTest, CountRowsThatWaitAndNotThoseThatWereTurnedAway) {
  options_.max_rows = options_.queue_rows = 1;
  options_.max_delay = std::chrono::minutes(1);
  auto engine = make_engine(options_, &registry_);
  auto first = send(*engine, request_for("slot", {image_file(1)}));
  auto second = send(*engine, request_for("slot", {image_file(1)}));
  EXPECT_THAT(error_of(Code::kUnavailable, [&] { second.get(); }), HasSubstr("1 rows wait already"));
  EXPECT_EQ(kept("waiting_rows"), 1);
  engine.reset();
  EXPECT_NO_THROW(first.get());
  EXPECT_EQ(kept("waiting_rows"), 0);
}

}  // namespace
}  // namespace recast
