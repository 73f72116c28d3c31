#include "serve/rationed_event.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

namespace recast {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

/// What is logged while it lives, without the times.
class Lines {
 public:
  Lines() {
    set_log(LogLevel::kWarn, [this](const LogEvent& event) {
      const std::lock_guard lock(mutex_);
      lines_.push_back(log_line(event, LogFormat::kText, 0).substr(std::size("1970-01-01T00:00:00.000Z")));
      lines_.back().pop_back();
    });
  }
  ~Lines() { set_log(LogLevel::kOff, {}); }
  /// Those that were not taken yet.
  std::vector<std::string> take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(lines_, {});
  }

 private:
  std::mutex mutex_;
  std::vector<std::string> lines_;
};

TEST(RationedEvent, TellsHowManyWereLeftOut) {
  Lines lines;
  const auto began = std::chrono::steady_clock::now() + seconds(1);
  RationedEvent refused(LogLevel::kWarn, "token_refused");
  for (int i = 0; i < 1'000; ++i) refused.log({{"i", i}}, began);
  EXPECT_THAT(lines.take(), SizeIs(20));
  refused.log({{"i", 1'000}}, began + milliseconds(500));
  EXPECT_THAT(lines.take(), IsEmpty());
  refused.log({{"i", 1'001}}, began + milliseconds(1'500));
  EXPECT_THAT(lines.take(),
              ElementsAre("warn log.left_out event=token_refused count=981", "warn token_refused i=1001"));
  for (int i = 0; i < 1'000; ++i) refused.log({{"i", i}}, began + seconds(61));
  EXPECT_THAT(lines.take(), SizeIs(20)) << "after a quiet minute";
}

TEST(RationedEvent, TellsTheRestAtItsEnd) {
  Lines lines;
  const auto now = std::chrono::steady_clock::now();
  {
    RationedEvent refused(LogLevel::kWarn, "token_refused");
    for (int i = 0; i < 23; ++i) refused.log({}, now);
    EXPECT_THAT(lines.take(), SizeIs(20));
  }
  EXPECT_THAT(lines.take(), ElementsAre("warn log.left_out event=token_refused count=3"));
  { RationedEvent quiet(LogLevel::kWarn, "token_refused"); }
  EXPECT_THAT(lines.take(), IsEmpty());
}

TEST(RationedEvent, CountsNothingThatNobodyWants) {
  Lines lines;
  const auto now = std::chrono::steady_clock::now();
  RationedEvent noise(LogLevel::kDebug, "noise");
  for (int i = 0; i < 100; ++i) noise.log({}, now);
  EXPECT_THAT(lines.take(), IsEmpty());
}

TEST(RationedEvent, CountsEachOfManyThreads) {
  Lines lines;
  const auto now = std::chrono::steady_clock::now();
  {
    RationedEvent refused(LogLevel::kWarn, "token_refused");
    std::vector<std::thread> threads;
    for (int thread = 0; thread < 4; ++thread)
      threads.emplace_back([&] {
        for (int i = 0; i < 1'000; ++i) refused.log({}, now);
      });
    for (std::thread& thread : threads) thread.join();
    EXPECT_THAT(lines.take(), SizeIs(20));
  }
  EXPECT_THAT(lines.take(), ElementsAre("warn log.left_out event=token_refused count=3980"));
}

}  // namespace
}  // namespace recast
