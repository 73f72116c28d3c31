#include "recast/data/visit_rows.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>
#include <vector>

#include "format/expect_error.h"

namespace recast {
namespace {

TEST(VisitRows, VisitsEachRowOnceWithAVisitorOfEachThread) {
  std::vector<std::atomic<int>> seen(1000);
  std::atomic<int> makers = 0;
  EXPECT_TRUE(visit_rows(1000, {3, nullptr, {}}, [&]() -> RowVisitor {
    ++makers;
    return [&](std::int64_t row) { ++seen[static_cast<std::size_t>(row)]; };
  }));
  for (const auto& count : seen) EXPECT_EQ(count, 1);
  EXPECT_EQ(makers, 3);
  EXPECT_TRUE(visit_rows(0, {}, [&]() -> RowVisitor { return [](std::int64_t) {}; }));
}

TEST(VisitRows, TakesNoMoreThreadsThanReadersAreOfUse) {
  std::atomic<int> makers = 0, visited = 0;
  EXPECT_TRUE(visit_rows(1000, {1024, nullptr, {}}, [&]() -> RowVisitor {
    ++makers;
    return [&](std::int64_t) { ++visited; };
  }));
  EXPECT_EQ(makers, kMostReaders);
  EXPECT_EQ(visited, 1000);
}

TEST(VisitRows, RethrowsTheErrorOfTheLowestRowWhateverTheThreadsDo) {
  for (int attempt = 0; attempt < 200; ++attempt) {
    const auto message = error_of(Code::kDataCorruption, [] {
      visit_rows(100, {4, nullptr, {}}, []() -> RowVisitor {
        return [](std::int64_t row) {
          if (row == 20) std::this_thread::sleep_for(std::chrono::microseconds(200));
          if (row >= 20) fail(Code::kDataCorruption, "row {}", row);
        };
      });
    });
    EXPECT_EQ(message, "row 20");
  }
}

TEST(VisitRows, StopsAndReportsFromTheCallingThread) {
  std::atomic<bool> stop = false;
  std::atomic<int> visited = 0;
  const auto caller = std::this_thread::get_id();
  const auto progress = [&](std::int64_t, std::int64_t total) {
    EXPECT_EQ(std::this_thread::get_id(), caller);
    EXPECT_EQ(total, 100000);
    stop = true;
  };
  EXPECT_FALSE(visit_rows(100000, {2, &stop, progress}, [&]() -> RowVisitor {
    return [&](std::int64_t) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      ++visited;
    };
  }));
  EXPECT_LT(visited, 5000);
}

TEST(VisitRows, AnErrorInTheReportEndsTheVisit) {
  const auto progress = [](std::int64_t, std::int64_t) { fail(Code::kCancelled, "enough"); };
  EXPECT_EQ(error_of(Code::kCancelled,
                     [&] {
                       visit_rows(100000, {2, nullptr, progress}, []() -> RowVisitor {
                         return [](std::int64_t) { std::this_thread::sleep_for(std::chrono::milliseconds(1)); };
                       });
                     }),
            "enough");
  error_of(Code::kInvalidArgument, [] { visit_rows(1, {0, nullptr, {}}, [] { return RowVisitor(); }); });
}

}  // namespace
}  // namespace recast
