// What the checks at opening cost.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <limits>

#include "format/temporary_folder.h"
#include "recast/store/task_store.h"
#include "sample_task.h"

namespace recast {
namespace {

/// Of five times.
template <class Work>
double best_ms(const Work& work) {
  using Clock = std::chrono::steady_clock;
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < 5; ++i) {
    const auto start = Clock::now();
    work();
    best = std::min(best, std::chrono::duration<double, std::milli>(Clock::now() - start).count());
  }
  return best;
}

/// RECAST_TASKS: of how many tasks.
TEST(OpeningAStore, ChecksManyTasksInTime) {
  const char* text = std::getenv("RECAST_TASKS");
  const std::int64_t tasks = text == nullptr ? 200 : std::atoll(text);
  const TemporaryFolder folder;
  {
    const auto store = open_sqlite_store(folder.path(), fingerprint_of("base"), false);
    for (std::int64_t i = 0; i < tasks; ++i) store->commit(sample_task(fmt::format("task-{}", i), i + 1));
  }
  std::unique_ptr<TaskStore> store;
  const double opened = best_ms([&] { store = open_sqlite_store(folder.path(), fingerprint_of("base"), true); });
  const double listed = best_ms([&] { EXPECT_EQ(store->list().size(), static_cast<std::size_t>(tasks)); });
  fmt::print("{} tasks, {} bytes: opened in {:.1f} ms, listed in {:.1f} ms\n", tasks,
             std::filesystem::file_size(folder / "tasks.db"), opened, listed);
  EXPECT_LT(opened, 100 + 0.2 * static_cast<double>(tasks));
}

}  // namespace
}  // namespace recast
