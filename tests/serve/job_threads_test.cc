#include "job_threads.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <thread>
#include <utility>

namespace recast {
namespace {

/// One thread, which is held up until it is let go.
class HeldThread {
 public:
  HeldThread() {
    threads_.run("first", [this, go = go_.get_future().share()] {
      began_.set_value();
      go.wait();
    });
    began_.get_future().wait();
  }
  bool run(const std::string& caller, int job) {
    return threads_.run(caller, [this, caller, job] { done_.push_back(caller + std::to_string(job)); });
  }
  void let_go() { go_.set_value(); }
  /// What was done.
  std::vector<std::string> stop() {
    threads_.stop();
    return done_;
  }

 protected:
  std::promise<void> go_, began_;
  std::vector<std::string> done_;
  JobThreads threads_{1, 5};
};

TEST(JobThreads, LetCallersTakeTurns) {
  struct : HeldThread {
    void wait() {
      std::promise<void> last;
      ASSERT_TRUE(threads_.run("last", [&] { last.set_value(); }));
      let_go();
      last.get_future().wait();
    }
  } thread;
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(thread.run("greedy", i));
  EXPECT_TRUE(thread.run("one", 0));
  thread.wait();
  const std::vector<std::string> done = thread.stop();
  ASSERT_GE(done.size(), 2u);
  EXPECT_EQ(done[0], "greedy0");
  EXPECT_EQ(done[1], "one0");
}

TEST(JobThreads, TakeNoMoreThanTheyMay) {
  HeldThread thread;
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(thread.run("greedy", i));
  EXPECT_FALSE(thread.run("late", 0));
  thread.let_go();
}

TEST(JobThreads, ForgetWhatWaitsWhenTheyAreStopped) {
  struct : HeldThread {
    bool keep(const std::shared_ptr<int>& what) {
      return threads_.run("keeps", [this, what] { done_.push_back("kept"); });
    }
  } thread;
  auto kept = std::make_shared<int>();
  const std::weak_ptr<int> seen = kept;
  EXPECT_TRUE(thread.keep(std::exchange(kept, nullptr)));
  auto stopped = std::async(std::launch::async, [&] { return thread.stop(); });
  while (!seen.expired()) std::this_thread::yield();
  EXPECT_FALSE(thread.run("late", 0));
  thread.let_go();
  EXPECT_THAT(stopped.get(), testing::IsEmpty());
}

}  // namespace
}  // namespace recast
