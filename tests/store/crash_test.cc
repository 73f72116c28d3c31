#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <random>
#include <set>
#include <vector>

#include "format/expect_error.h"
#include "format/temporary_folder.h"
#include "recast/store/task_store.h"
#include "sample_task.h"

namespace recast {
namespace {

/// Numbers of version `n`; every third has a tensor in a file of its own.
TaskRecord numbered_task(std::int64_t n) {
  TaskRecord task = sample_task("pets", n);
  if (n % 3 == 0) task.numbers.at("recast", Scope::kTask).set("w", at::full({(1 << 18) + 1}, n, at::kFloat));
  return task;
}

/// Another process that commits version after version and sends each number that it was told.
class Writer {
 public:
  Writer(const std::filesystem::path& folder, std::int64_t commits) {
    int ends[2];
    if (::pipe(ends) != 0) fail(Code::kUnavailable, "[test] no pipe");
    process_ = ::fork();
    if (process_ == 0) ::_exit(work(folder, commits, ends[1]));
    ::close(ends[1]);
    acknowledged_ = ends[0];
  }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;
  ~Writer() { ::close(acknowledged_); }

  void kill() { ::kill(process_, SIGKILL); }
  /// Waits for the end; what it acknowledged.
  std::vector<std::int64_t> finish(int& status) {
    std::vector<std::int64_t> versions;
    std::int64_t version = 0;
    while (::read(acknowledged_, &version, sizeof version) == sizeof version) versions.push_back(version);
    ::waitpid(process_, &status, 0);
    return versions;
  }

 private:
  static int work(const std::filesystem::path& folder, std::int64_t commits, int pipe) {
    at::set_num_threads(1);  // threads do not survive fork
    try {
      const auto store = open_sqlite_store(folder, fingerprint_of("base"), false);
      for (std::int64_t i = 0; i < commits; ++i) {
        const std::int64_t next = store->list().empty() ? 1 : store->list()[0].version + 1;
        const std::int64_t version = store->commit(numbered_task(next));
        if (::write(pipe, &version, sizeof version) != sizeof version) return 2;
      }
      return 0;
    } catch (const std::exception& error) {
      fmt::print(stderr, "{}\n", error.what());
      return 1;
    }
  }

  pid_t process_ = -1;
  int acknowledged_ = -1;
};

TEST(TaskStoreCrash, KeepsEveryAcknowledgedVersionWholeWhenItsWriterIsKilled) {
  const TemporaryFolder folder;
  std::mt19937 random(7);
  std::int64_t last = 0, killed = 0;
  for (int round = 0; round < 30; ++round) {
    Writer writer(folder.path(), 1'000'000);
    ::usleep(std::uniform_int_distribution<unsigned>(1'000, 60'000)(random));
    writer.kill();
    int status = 0;
    for (const std::int64_t version : writer.finish(status)) last = std::max(last, version);
    killed += WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    const auto store = open_sqlite_store(folder.path(), fingerprint_of("base"), true);
    const auto tasks = store->list();
    ASSERT_GE(tasks.empty() ? 0 : tasks[0].version, last);
  }
  EXPECT_EQ(killed, 30);
  EXPECT_GT(last, 30) << "too few commits to prove anything";
  const auto store = open_sqlite_store(folder.path(), fingerprint_of("base"), false);
  const auto versions = store->log("pets");
  ASSERT_EQ(versions.back().version, static_cast<std::int64_t>(versions.size()));
  for (const TaskSummary& version : versions) {
    ASSERT_TRUE(equal(store->load("pets", version.version)->numbers, numbered_task(version.version).numbers));
  }
  store->collect_garbage();
  EXPECT_EQ(store->commit(sample_task("pets")), versions.back().version + 1);
}

TEST(TaskStoreCrash, GivesTwoWritingProcessesVersionsOfTheirOwn) {
  const TemporaryFolder folder;
  Writer a(folder.path(), 40), b(folder.path(), 40);
  int status_a = 1, status_b = 1;
  const auto versions_a = a.finish(status_a), versions_b = b.finish(status_b);
  EXPECT_EQ(status_a, 0);
  EXPECT_EQ(status_b, 0);
  std::set<std::int64_t> all(versions_a.begin(), versions_a.end());
  all.insert(versions_b.begin(), versions_b.end());
  EXPECT_EQ(all.size(), 80u);
  EXPECT_EQ(*all.rbegin(), 80);
}

}  // namespace
}  // namespace recast
