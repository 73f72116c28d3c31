#include "recast/store/task_store.h"

#include <sqlite3.h>

#include <filesystem>
#include <thread>

#include "format/expect_error.h"
#include "format/temporary_folder.h"
#include "recast/base/log.h"
#include "recast/format/files.h"
#include "sample_task.h"

namespace recast {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::unique_ptr<TaskStore> open_store(const TemporaryFolder& folder, bool read_only = false,
                                      const std::string& backbone = "base") {
  return open_sqlite_store(folder.path(), fingerprint_of(backbone), read_only);
}

void run_sql(const TemporaryFolder& folder, const char* sql) {
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open((folder / "tasks.db").c_str(), &database), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(database, sql, nullptr, nullptr, nullptr), SQLITE_OK) << sqlite3_errmsg(database);
  ASSERT_EQ(sqlite3_close(database), SQLITE_OK);
}

std::vector<std::string> blob_names(const TemporaryFolder& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder / "blobs"))
    names.push_back(entry.path().filename());
  return names;
}

TEST(TaskStore, RefusesToLoadATaskOfAnotherBackboneAndNamesBoth) {
  const TemporaryFolder folder;
  open_store(folder)->commit(sample_task("pets"));
  EXPECT_THAT(error_of(Code::kShapeMismatch, [&] { open_store(folder, true, "other")->load("pets"); }),
              AllOf(HasSubstr(fingerprint_of("base")), HasSubstr(fingerprint_of("other"))));
}

TEST(TaskStore, HasErasedATaskWhoseFilesCannotBeSwept) {
  const TemporaryFolder folder;
  const auto store = open_store(folder);
  store->commit(large_task("pets"));
  std::filesystem::remove_all(folder / "blobs");
  write_file_atomically(folder / "blobs", "no folder");
  std::vector<std::string> events;
  set_log(LogLevel::kWarn, [&](const LogEvent& event) { events.emplace_back(event.name); });
  EXPECT_NO_THROW(store->purge("pets"));
  set_log(LogLevel::kWarn, {});
  EXPECT_THAT(events, ElementsAre("store.sweep_failed"));
  EXPECT_TRUE(store->list(true).empty());
  EXPECT_THAT(error_of(Code::kUnavailable, [&] { store->collect_garbage(); }), HasSubstr("blobs"));
  EXPECT_EQ(store->commit(sample_task("pets")), 1);
}

// ---- large tensors ----

TEST(TaskStore, KeepsLargeTensorsInFilesNamedByTheirContent) {
  const TemporaryFolder folder;
  const auto store = open_store(folder);
  store->commit(large_task("pets", 1));
  store->commit(large_task("cars", 2));
  EXPECT_EQ(blob_names(folder).size(), 2u);
  for (const std::string& name : blob_names(folder)) EXPECT_EQ(sha256_hex_of_file(folder / "blobs" / name), name);
  store->purge("pets");
  EXPECT_EQ(blob_names(folder).size(), 1u);
}

TEST(TaskStore, FindsDamagedAndMissingFilesOfTensors) {
  const TemporaryFolder folder;
  const auto store = open_store(folder);
  store->commit(large_task("pets"));
  const auto path = folder / "blobs" / blob_names(folder).at(0);
  const std::string good = read_file(path, 1 << 24);
  std::string bad = good;
  bad[5] ^= 1;
  const auto refused = [&] { return error_of(Code::kDataCorruption, [&] { store->load("pets"); }); };
  write_file_atomically(path, bad);
  EXPECT_THAT(refused(), HasSubstr(path.filename().string()));
  write_file_atomically(path, good + "x");
  EXPECT_THAT(refused(), HasSubstr("bytes"));
  std::filesystem::remove(path);
  EXPECT_THAT(refused(), HasSubstr("missing"));
  write_file_atomically(path, bad);
  store->commit(large_task("pets"));  // writes a damaged file anew
  EXPECT_TRUE(store->load("pets"));
}

TEST(TaskStore, SweepsFilesThatNoVersionNames) {
  const TemporaryFolder folder;
  const auto store = open_store(folder);
  EXPECT_EQ(store->collect_garbage(), 0);
  store->commit(large_task("pets"));
  write_file_atomically(folder / "blobs" / fingerprint_of("left over"), "12345");
  write_file_atomically(folder / "blobs" / ".recast-1-1.tmp", "123");
  write_file_atomically(folder / "blobs" / "notes.txt", "mine");
  EXPECT_EQ(store->collect_garbage(), 8);
  EXPECT_EQ(blob_names(folder).size(), 2u);
  EXPECT_TRUE(store->load("pets"));
}

TEST(TaskStore, RefusesLargeTensorsThatAreNotFinite) {
  const TemporaryFolder folder;
  TaskRecord task = large_task("pets", std::nan(""));
  error_of(Code::kDataCorruption, [&] { open_store(folder)->commit(task); });
  EXPECT_FALSE(std::filesystem::exists(folder / "blobs"));
}

// ---- files ----

TEST(TaskStore, ChangesNothingByReading) {
  const TemporaryFolder folder;
  open_store(folder)->commit(large_task("pets"));
  const std::string before = sha256_hex_of_file(folder / "tasks.db");
  const std::size_t entries = folder.entries();
  {
    const auto store = open_store(folder, true);
    store->load("pets");
    store->list();
    for (const auto& call : std::vector<std::function<void()>>{
             [&] { store->remove("pets"); }, [&] { store->purge("pets"); }, [&] { store->rollback("pets", 1); },
             [&] { store->rollback_shared("common", 1); }, [&] { store->collect_garbage(); }}) {
      error_of(Code::kUnavailable, call);
    }
  }
  EXPECT_EQ(sha256_hex_of_file(folder / "tasks.db"), before);
  EXPECT_EQ(folder.entries(), entries);
}

TEST(TaskStore, SaysWhatIsWrongWithAForeignFile) {
  const auto refused = [](Code code, const std::string& bytes, bool read_only) {
    const TemporaryFolder folder;
    write_file_atomically(folder / "tasks.db", bytes);
    const std::string message = error_of(code, [&] { open_store(folder, read_only); });
    EXPECT_THAT(message, HasSubstr("tasks.db"));
  };
  for (const bool read_only : {false, true}) {
    refused(Code::kDataCorruption, std::string(5000, 'x'), read_only);
    refused(Code::kDataCorruption, std::string("SQLite format 3\0", 16) + std::string(5000, '\xff'), read_only);
  }
  const TemporaryFolder folder;
  run_sql(folder, "CREATE TABLE t (x)");
  EXPECT_THAT(error_of(Code::kDataCorruption, [&] { open_store(folder); }), HasSubstr("another program"));
}

TEST(TaskStore, RefusesANewerSchema) {
  const TemporaryFolder folder;
  open_store(folder)->commit(sample_task("pets"));
  run_sql(folder, "PRAGMA user_version = 99");
  for (const bool read_only : {false, true}) {
    EXPECT_THAT(error_of(Code::kUnsupported, [&] { open_store(folder, read_only); }), HasSubstr("99"));
  }
}

TEST(TaskStore, TakesAnEmptyFileForAStoreThatWasJustBegun) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "tasks.db", "");
  EXPECT_TRUE(open_store(folder, true)->list().empty());
  EXPECT_EQ(open_store(folder)->commit(sample_task("pets")), 1);
}

TEST(TaskStore, FindsAStateWhoseBytesChanged) {
  const TemporaryFolder folder;
  open_store(folder)->commit(sample_task("pets"));
  run_sql(folder, "UPDATE states SET file = zeroblob(length(file))");
  EXPECT_THAT(error_of(Code::kDataCorruption, [&] { open_store(folder)->load("pets"); }), HasSubstr("digest"));
}

TEST(TaskStore, NeverTakesDamagedPagesForNumbers) {
  const TemporaryFolder folder;
  open_store(folder)->commit(sample_task("pets"));
  const std::string good = read_file(folder / "tasks.db", 1 << 24);
  int refused = 0;
  for (std::size_t at = 0; at < good.size(); at += 311) {
    const TemporaryFolder copy;
    std::string bad = good;
    bad[at] ^= 0x55;
    write_file_atomically(copy / "tasks.db", bad);
    try {
      const auto task = open_store(copy, true)->load("pets");
      EXPECT_TRUE(!task || equal(task->numbers, sample_task("pets").numbers)) << "byte " << at;
    } catch (const Error& error) {
      EXPECT_NE(error.code(), Code::kInternal) << "byte " << at << ": " << error.what();
      ++refused;
    }
  }
  EXPECT_GT(refused, 10);
}

TEST(TaskStore, NamesAFolderThatIsNotThere) {
  const TemporaryFolder folder;
  EXPECT_THAT(error_of(Code::kUnavailable, [&] { open_sqlite_store(folder / "no", fingerprint_of("base"), false); }),
              HasSubstr("no/tasks.db"));
}

}  // namespace
}  // namespace recast
