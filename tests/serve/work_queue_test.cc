#include "work_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ticket.h"

namespace recast {
namespace {

using testing::ElementsAre;

WorkQueue::Limits limits(std::int64_t rows, std::int64_t batch) {
  return {.rows = rows, .bytes = 1 << 20, .batch = batch, .delay = std::chrono::microseconds(0), .workers = 1};
}

/// Rows are told apart by their bytes.
std::vector<std::int64_t> bytes_of(const std::vector<WaitingRow>& rows) {
  std::vector<std::int64_t> bytes;
  for (const WaitingRow& row : rows) bytes.push_back(row.bytes);
  return bytes;
}

TEST(WorkQueue, LetsCallersTakeTurnsRowByRow) {
  WorkQueue queue(limits(100, 6));
  EXPECT_TRUE(queue.push(nullptr, "greedy", 20, 20));
  EXPECT_TRUE(queue.push(nullptr, "one", 1, 100));
  EXPECT_TRUE(queue.push(nullptr, "two", 2, 400));
  EXPECT_THAT(bytes_of(queue.take()), ElementsAre(1, 100, 200, 1, 200, 1));
  EXPECT_THAT(bytes_of(queue.take()), ElementsAre(1, 1, 1, 1, 1, 1));
  EXPECT_EQ(queue.waiting(), 11);
}

TEST(WorkQueue, KeepsTheOrderOfOneCaller) {
  WorkQueue queue(limits(100, 5));
  for (const std::int64_t bytes : {1, 2, 3}) EXPECT_TRUE(queue.push(nullptr, "one", 1, bytes));
  EXPECT_TRUE(queue.push(nullptr, "one", 2, 9));
  EXPECT_THAT(bytes_of(queue.take()), ElementsAre(1, 2, 3, 5, 4));
}

TEST(WorkQueue, GivesNobodyAllOfItsRoom) {
  WorkQueue queue(limits(16, 16));
  int greedy = 0;
  while (queue.push(nullptr, "greedy", 1, 1)) ++greedy;
  EXPECT_EQ(greedy, 12) << "three quarters";
  int other = 0;
  while (queue.push(nullptr, "other", 1, 1)) ++other;
  EXPECT_EQ(other, 3) << "and three quarters of what was left";
  EXPECT_TRUE(queue.push(nullptr, "late", 1, 1)) << "who has none in it finds room as long as there is any";
  EXPECT_FALSE(queue.push(nullptr, "too late", 1, 1));
  EXPECT_EQ(queue.take().size(), 16u);
  EXPECT_TRUE(queue.push(nullptr, "greedy", 16, 16)) << "a request that fits is taken where nobody waits";
}

TEST(WorkQueue, CountsBytesAsItCountsRows) {
  WorkQueue queue(limits(1000, 1000));
  EXPECT_TRUE(queue.push(nullptr, "greedy", 1, 700 << 10));
  EXPECT_FALSE(queue.push(nullptr, "greedy", 1, 100 << 10));
  EXPECT_TRUE(queue.push(nullptr, "other", 1, 300 << 10));
  EXPECT_FALSE(queue.push(nullptr, "late", 1, 100 << 10));
  queue.close();
  EXPECT_FALSE(queue.push(nullptr, "late", 1, 1));
  EXPECT_EQ(queue.take().size(), 2u);
  EXPECT_TRUE(queue.take().empty());
}

}  // namespace
}  // namespace recast
