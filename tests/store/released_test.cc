// Files of every released version of the schema and of the task file are read for ever.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "format/expect_error.h"
#include "format/temporary_folder.h"
#include "recast/format/files.h"
#include "released/expect_released.h"

namespace recast {
namespace {
namespace fs = std::filesystem;

std::vector<fs::path> released(const std::string& kind) {
  std::vector<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(kReleased)) {
    if (entry.path().filename().string().starts_with(kind)) folders.push_back(entry.path());
  }
  return folders;
}

TEST(ReleasedStore, IsReadWithoutAChangeWhateverItsSchema) {
  ASSERT_GE(released("schema-").size(), 1u);
  for (const fs::path& folder : released("schema-")) {
    const TemporaryFolder copy;
    fs::copy(folder, copy.path(), fs::copy_options::recursive);
    const std::string before = sha256_hex_of_file(copy / "tasks.db");
    const std::size_t entries = copy.entries();
    expect_released_tasks(*open_released(copy.path(), true));
    error_of(Code::kUnavailable, [&] { open_released(copy.path(), true)->remove("a"); });
    EXPECT_EQ(sha256_hex_of_file(copy / "tasks.db"), before) << folder;
    EXPECT_EQ(copy.entries(), entries) << folder;
  }
}

TEST(ReleasedStore, IsBroughtUpToDateByTheFirstCommandThatWrites) {
  for (const fs::path& folder : released("schema-")) {
    const TemporaryFolder copy;
    fs::copy(folder, copy.path(), fs::copy_options::recursive);
    {
      const auto store = open_released(copy.path(), false);
      expect_released_tasks(*store);
      EXPECT_EQ(store->tag("pets", 2, "large"), 2);
      EXPECT_EQ(store->commit(released_task("cars", 9)), 2);
    }
    const auto store = open_released(copy.path(), true);
    EXPECT_EQ(store->tagged("pets", "large"), 2);
    EXPECT_TRUE(equal(store->load("cars")->numbers, released_task("cars", 9).numbers));
    EXPECT_TRUE(equal(store->load("pets", 2)->numbers, released_large_task("pets", 2).numbers));
  }
}

TEST(ReleasedTaskFile, IsRead) {
  ASSERT_GE(released("task-file-").size(), 1u);
  for (const fs::path& folder : released("task-file-")) {
    const auto task = [&](const char* file) { return decode_task(read_file(folder / file, 1 << 20), file); };
    const TaskRecord pets = task("pets.safetensors"), b = task("b.safetensors");
    EXPECT_TRUE(equal(pets.numbers, released_task("pets", 1).numbers));
    EXPECT_EQ(pets.labels, released_task("pets", 1).labels);
    EXPECT_EQ(pets.version, 3);
    EXPECT_EQ(pets.parent, 1);
    EXPECT_EQ(b.follows, (SharedVersion{"common", 2}));
    EXPECT_TRUE(equal(b.numbers.only(Scope::kShared), released_shared(2)));
    EXPECT_TRUE(equal(b.numbers.only(Scope::kTask), released_task("b", 5).numbers));
    EXPECT_EQ(b.data, released_task("b", 5).data);
  }
}

}  // namespace
}  // namespace recast
