// What the checks at opening cost.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>

#include "format/temporary_folder.h"
#include "recast/store/task_store.h"
#include "sample_task.h"

namespace recast {
namespace {

/// RECAST_TASKS: of how many tasks.
TEST(OpeningAStore, ChecksManyTasksInTime) {
  const char* text = std::getenv("RECAST_TASKS");
  const std::int64_t tasks = text == nullptr ? 200 : std::atoll(text);
  const TemporaryFolder folder;
  {
    const auto store = open_sqlite_store(folder.path(), fingerprint_of("base"), false);
    for (std::int64_t i = 0; i < tasks; ++i) store->commit(sample_task(fmt::format("task-{}", i), i + 1));
  }
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  const auto store = open_sqlite_store(folder.path(), fingerprint_of("base"), true);
  const auto opened = Clock::now();
  EXPECT_EQ(store->list().size(), static_cast<std::size_t>(tasks));
  const auto ms = [](auto span) { return std::chrono::duration<double, std::milli>(span).count(); };
  fmt::print("{} tasks, {} bytes: opened in {:.1f} ms, listed in {:.1f} ms\n", tasks,
             std::filesystem::file_size(folder / "tasks.db"), ms(opened - start), ms(Clock::now() - opened));
  EXPECT_LT(ms(opened - start), 100 + 0.2 * static_cast<double>(tasks));
}

}  // namespace
}  // namespace recast
