// A store of many tasks as a server uses it: what it asks the database, and what each answer costs.
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <mutex>
#include <set>
#include <thread>

#include "base/sanitizer.h"
#include "fill_store.h"
#include "format/temporary_folder.h"
#include "sample_task.h"

namespace recast {
namespace {
namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double us_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

std::unique_ptr<TaskStore> serve(const fs::path& folder) {
  return open_sqlite_store(folder, fingerprint_of("base"), true, Disk::kLocal, Verify::kAsRead);
}

/// About 30 kB, most of it fp32, as recast's own tasks are.
TaskRecord usual_task() {
  TaskRecord task = sample_task("usual");
  for (int block = 0; block < 12; ++block)
    task.numbers.at("recast", Scope::kTask)
        .set(fmt::format("c@blocks.{}.attn.qkv", block), at::ones({6, 8, 12}) / (block + 1));
  task.numbers.at("head", Scope::kTask).set("weight", at::ones({3, 64}));
  return task;
}

/// Every statement that any connection of this process runs.
class Statements {
 public:
  Statements() { sqlite3_auto_extension(reinterpret_cast<void (*)()>(begin)); }
  Statements(const Statements&) = delete;
  Statements& operator=(const Statements&) = delete;
  ~Statements() { sqlite3_reset_auto_extension(); }

  static std::set<std::string> take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(texts_, {});
  }

 private:
  static int begin(sqlite3* connection, char**, const void*) {
    return sqlite3_trace_v2(connection, SQLITE_TRACE_STMT, note, nullptr);
  }
  static int note(unsigned, void*, void* statement, void*) {
    const std::lock_guard lock(mutex_);
    texts_.insert(sqlite3_sql(static_cast<sqlite3_stmt*>(statement)));
    return 0;
  }
  static inline std::mutex mutex_;
  static inline std::set<std::string> texts_;
};

/// SQLite's plan for a statement, one line.
std::string plan_of(sqlite3* database, const std::string& sql) {
  sqlite3_stmt* statement = nullptr;
  EXPECT_EQ(sqlite3_prepare_v2(database, ("EXPLAIN QUERY PLAN " + sql).c_str(), -1, &statement, nullptr), SQLITE_OK)
      << sql << ": " << sqlite3_errmsg(database);
  std::string plan;
  while (sqlite3_step(statement) == SQLITE_ROW)
    plan += reinterpret_cast<const char*>(sqlite3_column_text(statement, 3)) + std::string("; ");
  sqlite3_finalize(statement);
  return plan;
}

/// Only its name is needed to make a plan.
void no_seal(sqlite3_context* context, int, sqlite3_value**) { sqlite3_result_null(context); }

TEST(ServingManyTasks, EachStatementIsOneIndexedSearch) {
  const TemporaryFolder folder;
  const auto writer = open_sqlite_store(folder.path(), fingerprint_of("base"), false);
  const Numbers shared = sample_shared(1);
  TaskRecord large = sample_task("large");
  large.numbers.at("recast", Scope::kTask).set("w", at::ones({(1 << 18) + 1}));
  writer->commit(large);
  writer->commit(sample_task("follower"), &shared, "common");
  writer->commit(sample_task("follower", 2), &shared, "common");
  writer->tag("large", 1, "best");
  const Statements all;
  const auto store = serve(folder.path());
  store->changes();
  Statements::take();  // what opening asks
  for (const char* name : {"large", "follower", "absent"}) {
    for (const std::int64_t version : {0, 1, 9}) {
      store->load(name, version);
      if (const auto resolved = store->resolve(name, version)) store->load(*resolved);
    }
    for (const char* tag : {"best", "absent"}) store->resolve(name, 0, tag);
  }
  store->changes();
  store->names_after("", 10);
  const std::set<std::string> statements = Statements::take();

  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open((folder / "tasks.db").c_str(), &database), SQLITE_OK);
  sqlite3_create_function(database, "recast_seal", -1, SQLITE_UTF8 | SQLITE_DETERMINISTIC, nullptr, no_seal, nullptr,
                          nullptr);
  std::size_t selects = 0;
  for (const std::string& sql : statements) {
    if (!sql.starts_with("SELECT")) {
      EXPECT_THAT((std::set<std::string>{"BEGIN", "ROLLBACK", "PRAGMA data_version", "PRAGMA user_version"}),
                  testing::Contains(sql));
      continue;
    }
    ++selects;
    const std::string plan = plan_of(database, sql);
    EXPECT_THAT(plan, testing::StartsWith("SEARCH ")) << sql;
    EXPECT_THAT(plan, testing::Not(testing::AnyOf(testing::HasSubstr("SCAN"), testing::HasSubstr("TEMP B-TREE"))))
        << sql;
  }
  EXPECT_GE(selects, 12u);
  sqlite3_close(database);
}

struct Times {
  std::vector<double> us;
  double at(double part) {
    const auto place = us.begin() + static_cast<std::ptrdiff_t>(part * static_cast<double>(us.size() - 1));
    std::nth_element(us.begin(), place, us.end());
    return *place;
  }
};

template <class Call>
Times time_each(std::int64_t calls, std::int64_t tasks, const Call& call) {
  Times times;
  for (std::int64_t i = 0; i < calls; ++i) {
    const std::string name = numbered_name(
        "task-", static_cast<std::int64_t>(
                     Key(7).fold("", static_cast<std::uint64_t>(i)).below(static_cast<std::uint64_t>(tasks))));
    const auto start = Clock::now();
    call(name);
    times.us.push_back(us_since(start));
  }
  return times;
}

/// Of this process: seconds of processor, and how often a thread waited for something.
struct Usage {
  double seconds;
  double waits;
  static Usage now() {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    const auto seconds = [](const timeval& time) { return double(time.tv_sec) + 1e-6 * double(time.tv_usec); };
    return {seconds(usage.ru_utime) + seconds(usage.ru_stime), static_cast<double>(usage.ru_nvcsw)};
  }
};

/// On a machine that others use too, processor and waits say more than time: threads that hold each other up wait.
void time_loads(const TaskStore& store, std::int64_t tasks, int threads, std::int64_t loads) {
  std::atomic<std::int64_t> next = 0;
  const auto work = [&] {
    for (std::int64_t i; (i = next++) < loads;)
      if (!store.load(numbered_name("task-", i * 7919 % tasks))) std::abort();
  };
  const auto start = Clock::now();
  const Usage before = Usage::now();
  std::vector<std::thread> workers;
  for (int i = 0; i < threads; ++i) workers.emplace_back(work);
  for (std::thread& worker : workers) worker.join();
  const double count = static_cast<double>(loads), seconds = us_since(start) / 1e6;
  const Usage after = Usage::now();
  fmt::print(
      "{} thread(s): {:.0f} loads a second, {:.0f} a second of processor on {:.2f} processors, {:.3f} waits each\n",
      threads, count / seconds, count / (after.seconds - before.seconds), (after.seconds - before.seconds) / seconds,
      (after.waits - before.waits) / count);
}

double resident_mb() {
  std::ifstream file("/proc/self/statm");
  double all = 0, resident = 0;
  file >> all >> resident;
  return resident * static_cast<double>(::sysconf(_SC_PAGESIZE)) / 1e6;
}

std::int64_t list_all(const TaskStore& store) {
  std::int64_t count = 0;
  for (std::string last;;) {
    const auto page = store.names_after(last, 500);
    count += static_cast<std::int64_t>(page.size());
    if (page.size() < 500) return count;
    last = page.back().name;
  }
}

/// RECAST_TASKS: of how many tasks.  RECAST_TASKS_FOLDER: an existing folder that keeps the store, filled if need be.
class ManyTasks : public ::testing::Test {
 protected:
  ManyTasks() {
    at::set_num_threads(1);
    if (const char* text = std::getenv("RECAST_TASKS")) tasks_ = std::atoll(text);
    if (const char* text = std::getenv("RECAST_TASKS_FOLDER")) folder_ = text;
    if (fs::exists(folder_ / "tasks.db")) return;
    const auto start = Clock::now();
    fill_store(*open_sqlite_store(folder_, fingerprint_of("base"), false), {usual_task()}, tasks_);
    fmt::print("{} commits in {:.1f} s\n", tasks_, us_since(start) / 1e6);
  }

  TemporaryFolder own_;
  fs::path folder_ = own_.path();
  std::int64_t tasks_ = 2'000;
};

TEST_F(ManyTasks, AreOpenedResolvedLoadedAndListedInTime) {
  const double before = resident_mb();
  std::unique_ptr<TaskStore> store;
  double opened_ms = std::numeric_limits<double>::infinity();  // the best of five
  for (int i = 0; i < 5; ++i) {
    const auto start = Clock::now();
    store = serve(folder_);
    store->changes();
    opened_ms = std::min(opened_ms, us_since(start) / 1e3);
  }
  fmt::print("{} tasks, {:.0f} MB: opened in {:.1f} ms\n", tasks_,
             static_cast<double>(fs::file_size(folder_ / "tasks.db")) / 1e6, opened_ms);
  const std::int64_t calls = std::min<std::int64_t>(tasks_, 5'000);
  Times resolve = time_each(calls, tasks_, [&](const auto& name) { ASSERT_TRUE(store->resolve(name)); });
  Times load = time_each(calls, tasks_, [&](const auto& name) { ASSERT_TRUE(store->load(name)); });
  fmt::print("resolve: median {:.0f} us, p99 {:.0f} us\n", resolve.at(0.5), resolve.at(0.99));
  fmt::print("load: median {:.0f} us, p99 {:.0f} us\n", load.at(0.5), load.at(0.99));
  for (const int threads : {1, 2, 4}) time_loads(*store, tasks_, threads, calls);
  const auto listing = Clock::now();
  EXPECT_EQ(list_all(*store), tasks_);
  fmt::print("all names in pages of 500: {:.0f} ms\n", us_since(listing) / 1e3);
  fmt::print("memory of the process: {:.0f} MB before, {:.0f} MB after\n", before, resident_mb());
  EXPECT_LT(opened_ms, 500);
  EXPECT_LT(resolve.at(0.5), 5'000);
  EXPECT_LT(load.at(0.5), 20'000);
  if (!kSanitized) {
    EXPECT_LT(resident_mb() - before, 100);
  }
}

}  // namespace
}  // namespace recast
