// Several processes and one store: one writes at a time, nobody is lost, readers go on.
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <set>

#include "format/expect_error.h"
#include "format/temporary_folder.h"
#include "recast/store/task_store.h"
#include "sample_task.h"

namespace recast {
namespace {
using ::testing::HasSubstr;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::unique_ptr<TaskStore> open_store(const TemporaryFolder& folder, bool read_only = false) {
  return open_sqlite_store(folder.path(), fingerprint_of("base"), read_only);
}

/// Another process. `work` returns its exit status; what it throws is told and is status 1.
class Process {
 public:
  explicit Process(const std::function<int()>& work) : id_(::fork()) {
    if (id_ != 0) return;
    int status = 1;
    try {
      status = work();
    } catch (const std::exception& error) {
      fmt::print(stderr, "{}\n", error.what());
    }
    ::_exit(status);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process() { finish(); }

  pid_t id() const { return id_; }
  /// The exit status, or -signal.
  int finish() {
    if (id_ > 0) {
      int status = 0;
      ::waitpid(id_, &status, 0);
      status_ = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
      id_ = -1;
    }
    return status_;
  }

 private:
  pid_t id_;
  int status_ = -1;
};

class StoreProcesses : public ::testing::Test {
 protected:
  StoreProcesses() { at::set_num_threads(1); }  // threads do not survive fork
  TemporaryFolder folder_;
};

/// Holds the lock that `sql` takes for `seconds`, from the moment that this returns.
std::unique_ptr<Process> hold_lock(const TemporaryFolder& folder, unsigned seconds,
                                   const char* sql = "BEGIN IMMEDIATE") {
  int ends[2];
  if (::pipe(ends) != 0) std::abort();
  auto process = std::make_unique<Process>([&] {
    sqlite3* database = nullptr;
    if (sqlite3_open((folder / "tasks.db").c_str(), &database) != SQLITE_OK) return 2;
    if (sqlite3_exec(database, sql, nullptr, nullptr, nullptr) != SQLITE_OK) return 3;
    if (::write(ends[1], "x", 1) != 1) return 4;
    ::sleep(seconds);
    return 0;
  });
  char byte = 0;
  EXPECT_EQ(::read(ends[0], &byte, 1), 1);
  ::close(ends[0]);
  ::close(ends[1]);
  return process;
}

TEST_F(StoreProcesses, ASecondWriterWaitsForTheFirst) {
  open_store(folder_)->commit(sample_task("pets"));
  const auto store = open_store(folder_);
  const auto start = Clock::now();
  const auto holder = hold_lock(folder_, 1);
  EXPECT_EQ(store->commit(sample_task("pets")), 2);
  EXPECT_GE(seconds_since(start), 1);
}

TEST_F(StoreProcesses, ASecondWriterGivesUpAfterTenSecondsAndNamesTheFirstWhileReadersGoOn) {
  open_store(folder_)->commit(sample_task("pets"));
  const auto store = open_store(folder_);
  const auto holder = hold_lock(folder_, 30);
  Process reader([&] {  // would give up as well if it had to wait
    for (int i = 0; i < 100; ++i) {
      if (!open_store(folder_, true)->load("pets")) return 2;
    }
    return 0;
  });
  const auto start = Clock::now();
  EXPECT_THAT(error_of(Code::kUnavailable, [&] { store->commit(sample_task("pets")); }),
              HasSubstr(fmt::format("(process {})", holder->id())));
  EXPECT_GE(seconds_since(start), 9.5);
  EXPECT_LT(seconds_since(start), 25) << "SQLite adds up the waits that it asked for, not those that it had";
  EXPECT_EQ(reader.finish(), 0);
  ::kill(holder->id(), SIGKILL);
  holder->finish();
  EXPECT_EQ(store->commit(sample_task("pets")), 2) << "the same store goes on";
}

TEST_F(StoreProcesses, AReaderOfACopyWithoutALogIsWaitedForTenSecondsAndNoLonger) {
  open_store(folder_)->commit(sample_task("pets"));
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open((folder_ / "tasks.db").c_str(), &database), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(database, "PRAGMA journal_mode = DELETE", nullptr, nullptr, nullptr), SQLITE_OK);
  ASSERT_EQ(sqlite3_close(database), SQLITE_OK);
  {
    const auto holder = hold_lock(folder_, 30, "BEGIN; SELECT count(*) FROM tasks");
    const auto start = Clock::now();
    EXPECT_THAT(error_of(Code::kUnavailable, [&] { open_store(folder_); }), HasSubstr("another process is using it"));
    EXPECT_GE(seconds_since(start), 9.5);
    EXPECT_LT(seconds_since(start), 20);
    ::kill(holder->id(), SIGKILL);
  }
  EXPECT_EQ(open_store(folder_)->commit(sample_task("pets")), 2);
}

TEST_F(StoreProcesses, TwoThatWriteAtOnceBothSucceedWithVersionsOfTheirOwn) {
  constexpr int kCommits = 500;
  const std::vector<std::string> names = {"one", "two", "three"};
  const auto write = [&](std::int64_t base) {
    const auto store = open_store(folder_);
    for (int i = 0; i < kCommits; ++i) store->commit(sample_task(names[static_cast<std::size_t>(i) % 3], base + i));
    return 0;
  };
  Process a([&] { return write(1'000); }), b([&] { return write(100'000); });
  EXPECT_EQ(a.finish(), 0);
  EXPECT_EQ(b.finish(), 0);
  const auto store = open_store(folder_, true);
  std::multiset<std::int64_t> seeds;
  for (const std::string& name : names) {
    const auto log = store->log(name);
    for (const TaskSummary& version : log) {
      const TaskRecord task = *store->load(name, version.version);
      const std::int64_t seed = task.numbers.at("head", Scope::kTask).integer("seen");
      EXPECT_TRUE(equal(task.numbers, sample_task(name, seed).numbers));
      seeds.insert(seed);
    }
    EXPECT_EQ(log.back().version, static_cast<std::int64_t>(log.size()));
  }
  std::multiset<std::int64_t> all;
  for (int i = 0; i < kCommits; ++i) all.insert({std::int64_t{1'000} + i, std::int64_t{100'000} + i});
  EXPECT_EQ(seeds, all) << "nothing lost, nothing twice";
}

TEST_F(StoreProcesses, GarbageIsCollectedBesideAWriterWithoutLosingAnyOfItsTensors) {
  const auto large = [](std::int64_t seed) {
    TaskRecord task = sample_task("pets", seed);
    task.numbers.at("recast", Scope::kTask).set("w", at::full({(1 << 18) + 1}, seed, at::kFloat));
    return task;
  };
  open_store(folder_)->commit(large(1));
  Process writer([&] {
    const auto store = open_store(folder_);
    for (std::int64_t seed = 2; seed <= 30; ++seed) store->commit(large(seed));
    return 0;
  });
  const auto store = open_store(folder_);
  for (int i = 0; i < 60; ++i) EXPECT_EQ(store->collect_garbage(), 0);
  EXPECT_EQ(writer.finish(), 0);
  store->collect_garbage();
  for (std::int64_t seed = 1; seed <= 30; ++seed) {
    EXPECT_TRUE(equal(store->load("pets", seed)->numbers, large(seed).numbers));
  }
}

TEST_F(StoreProcesses, AReaderSeesWholeVersionsWhileAnotherProcessWrites) {
  open_store(folder_)->commit(sample_task("pets", 1));
  Process writer([&] {
    const auto store = open_store(folder_);
    for (std::int64_t seed = 2; seed <= 150; ++seed) store->commit(sample_task("pets", seed));
    return 0;
  });
  const auto store = open_store(folder_, true);
  const auto start = Clock::now();
  for (std::int64_t seen = 1; seen < 150 && seconds_since(start) < 60;) {
    const auto task = store->load("pets");
    ASSERT_GE(task->version, seen);
    seen = task->version;
    ASSERT_TRUE(equal(task->numbers, sample_task("pets", seen).numbers));
  }
  EXPECT_EQ(writer.finish(), 0);
}

}  // namespace
}  // namespace recast
