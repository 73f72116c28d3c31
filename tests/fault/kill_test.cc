// Promise P1: what was acknowledged survives kill -9, and nothing is ever half there.
#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>

#include "fault_layer.h"
#include "store/released/expect_released.h"
#include "store_script.h"

namespace recast {
namespace {

using fault::Fault;

/// Operations drawn from `random`, each acknowledged, until the process is killed.
int write_for_ever(const std::filesystem::path& folder, std::mt19937 random, ExpectedStore expected, int pipe) try {
  const auto store = open_for_writing(folder);
  for (;;) {
    const Operation operation = next_operation(random, expected);
    perform(*store, operation);
    expected.apply(operation);
    acknowledge(pipe);
  }
} catch (const std::exception& error) {
  fmt::print(stderr, "the writer failed: {}\n", error.what());
  return 1;
}

/// RECAST_KILLS: how many; RECAST_SEED: of the first one.
std::int64_t number_from(const char* name, std::int64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::atoll(text);
}

TEST(TaskStoreKill, KeepsEveryAcknowledgedOperationWholeWhenItsWriterIsKilledAtRandom) {
  at::set_num_threads(1);  // threads do not survive fork
  const TemporaryFolder folder;
  const std::int64_t kills = number_from("RECAST_KILLS", 60), seed = number_from("RECAST_SEED", 1);
  ExpectedStore expected;
  std::int64_t acknowledged = 0, in_flight = 0;
  unsigned longest_us = 30'000;
  for (std::int64_t round = 0; round < kills; ++round) {
    std::mt19937 random(static_cast<unsigned>(seed + round));
    Child writer([&](int pipe) { return write_for_ever(folder.path(), random, expected, pipe); });
    std::mt19937 delay(static_cast<unsigned>(seed + round) ^ 0xdead);
    ::usleep(std::uniform_int_distribution<unsigned>(500, longest_us)(delay));
    writer.kill();
    const std::size_t done = writer.finish();
    ASSERT_EQ(writer.status(), -SIGKILL) << "round " << round;
    for (std::size_t i = 0; i < done; ++i) expected.apply(next_operation(random, expected));
    ExpectedStore more = expected, held;
    more.apply(next_operation(random, expected));
    ASSERT_EQ(judge(folder.path(), {expected, more}, &held), "") << "round " << round << ", seed " << seed;
    acknowledged += static_cast<std::int64_t>(done);
    if (acknowledged < 2 * (round + 1)) longest_us = std::min(longest_us * 2, 2'000'000u);  // a slow or busy disk
    in_flight += held == more && more != expected;
    expected = held;
  }
  fmt::print("{} kills, {} operations acknowledged and all there, {} more had been done unacknowledged\n", kills,
             acknowledged, in_flight);
  EXPECT_GT(acknowledged, kills) << "too few operations to prove anything";
}

/// Kills the writer of the script before its nth call on a file, or in the middle of it. False: it got to its end.
bool survives(const Script& script, Fault fault, std::int64_t nth) {
  const TemporaryFolder folder;
  Child writer([&](int pipe) {
    fault::watch(folder.path().string());
    fault::arm({fault::kFileCalls, nth, fault});
    {
      const auto store = open_for_writing(folder.path());
      for (const Operation& operation : script.operations) {
        perform(*store, operation);
        acknowledge(pipe);
      }
    }
    return 0;
  });
  const std::size_t done = writer.finish();
  EXPECT_TRUE(writer.status() == 0 || writer.status() == -SIGKILL) << "call " << nth << ": " << writer.status();
  std::vector<ExpectedStore> allowed{script.after[done]};
  if (done < script.operations.size()) allowed.push_back(script.after[done + 1]);
  EXPECT_EQ(judge(folder.path(), allowed), "") << "killed at call " << nth << ", after " << done << " operations";
  return writer.status() != 0;
}

void kill_at_every_call(Fault fault) {
  at::set_num_threads(1);
  const Script script;
  const std::int64_t step = in_full() ? 1 : 11;
  std::int64_t nth = 1, kills = 0;
  for (; survives(script, fault, nth) && !testing::Test::HasFailure(); nth += step) ++kills;
  fmt::print("{} kills, at every {} call of {}\n", kills, step == 1 ? "single" : std::to_string(step) + "th", nth);
  EXPECT_GT(nth, 200) << "too few calls: does the layer see them?";
}

TEST(TaskStoreKill, KeepsEveryAcknowledgedOperationWhenKilledBeforeAnyStep) { kill_at_every_call(Fault::kKill); }
TEST(TaskStoreKill, KeepsEveryAcknowledgedOperationWhenKilledInsideAnyWrite) { kill_at_every_call(Fault::kKillHalf); }

/// Kills the first writer of a store of schema 1 before its nth call. False: it got to its end.
bool survives_migration(std::int64_t nth) {
  const TemporaryFolder folder;
  std::filesystem::copy(kReleased / "schema-1", folder.path(), std::filesystem::copy_options::recursive);
  Child writer([&](int) {
    fault::watch(folder.path().string());
    fault::arm({fault::kFileCalls, nth, Fault::kKill});
    open_released(folder.path(), false);
    return 0;
  });
  writer.finish();
  expect_released_tasks(*open_released(folder.path(), true));
  expect_released_tasks(*open_released(folder.path(), false));
  EXPECT_EQ(ask(folder.path(), "PRAGMA user_version"), "2");
  EXPECT_EQ(ask(folder.path(), "PRAGMA integrity_check"), "ok");
  return writer.status() != 0;
}

TEST(TaskStoreKill, BringsAnOlderStoreUpToDateWhereverThatWasCut) {
  at::set_num_threads(1);
  std::int64_t nth = 1;
  while (survives_migration(nth) && !testing::Test::HasFailure()) nth += in_full() ? 1 : 5;
  EXPECT_GT(nth, 20);
}

}  // namespace
}  // namespace recast
