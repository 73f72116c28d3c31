#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "released_content.h"

namespace recast {

inline const std::filesystem::path kReleased =
    std::filesystem::path(RECAST_SOURCE_DIR) / "tests" / "store" / "released";

inline std::unique_ptr<TaskStore> open_released(const std::filesystem::path& folder, bool read_only) {
  return open_sqlite_store(folder, kReleasedFingerprint, read_only);
}

/// Everything of commit_released_tasks(), whatever else there may be.
inline void expect_released_tasks(const TaskStore& store) {
  std::vector<std::string> shown;
  for (const TaskSummary& task : store.list()) shown.push_back(task.name);
  EXPECT_THAT(shown, testing::ElementsAre("a", "b", "pets"));
  EXPECT_TRUE(store.list(true)[2].removed);
  EXPECT_TRUE(equal(store.load("cars", 1)->numbers, released_task("cars", 3).numbers));
  ASSERT_EQ(store.log("pets").size(), 3u);
  EXPECT_TRUE(equal(store.load("pets", 1)->numbers, released_task("pets", 1).numbers));
  EXPECT_TRUE(equal(store.load("pets", 2)->numbers, released_large_task("pets", 2).numbers));
  const TaskRecord pets = *store.load("pets");
  EXPECT_TRUE(equal(pets.numbers, released_task("pets", 1).numbers));
  EXPECT_EQ(pets.parent, 1);
  EXPECT_EQ(pets.labels, released_task("pets", 1).labels);
  EXPECT_EQ(pets.plugs, released_task("pets", 1).plugs);
  EXPECT_EQ(pets.recipe, released_task("pets", 1).recipe);
  EXPECT_EQ(pets.metrics, released_task("pets", 1).metrics);
  EXPECT_EQ(store.load("pets", 1)->created_utc, "2026-01-31T23:59:59Z");
  EXPECT_EQ(store.load("a")->follows, (SharedVersion{"common", 2}));
  EXPECT_EQ(store.load("a", 1)->follows, (SharedVersion{"common", 1}));
  EXPECT_TRUE(equal(store.load("b")->numbers.only(Scope::kShared), released_shared(2)));
  EXPECT_TRUE(store.log("pets")[0].tags.empty());
}

}  // namespace recast
