// What a server needs of a store that others write to: which version a name stands for, when that changes, many
// threads.
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <set>
#include <thread>

#include "format/expect_error.h"
#include "recast/format/files.h"
#include "store_place.h"

namespace recast {
namespace {
namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::unique_ptr<TaskStore> open_store(const fs::path& folder, bool read_only = false, Verify verify = Verify::kWhole) {
  return open_sqlite_store(folder, fingerprint_of("base"), read_only, Disk::kLocal, verify);
}

std::vector<std::string> text_of(const std::vector<TaskName>& names) {
  std::vector<std::string> texts;
  for (const TaskName& task : names) texts.push_back(fmt::format("{}:{}", task.name, task.version));
  return texts;
}

class Serving : public EveryStore {
 protected:
  void SetUp() override {
    EveryStore::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    writer_ = place().open();
    served_ = place().serve();
  }
  std::string digest(std::string_view name, std::int64_t version = 0) const {
    const auto resolved = served_->resolve(name, version);
    return resolved ? resolved->digest : "none";
  }
  bool changed(const TaskStore& store, std::int64_t before) const { return changes_from(store, before, GetParam()); }

  std::unique_ptr<TaskStore> writer_, served_;
};

using Served = EveryStore;

/// What files alone can do to a server.
class ServedFile : public ::testing::Test {
 protected:
  TemporaryFolder folder_;
  std::unique_ptr<TaskStore> writer_ = open_store(folder_.path()),
                             served_ = open_store(folder_.path(), true, Verify::kAsRead);
};

// ---- resolve() ----

TEST_P(Serving, ResolvesTheNewestANumberAndATag) {
  writer_->commit(sample_task("pets", 1));
  writer_->commit(sample_task("pets", 2));
  writer_->tag("pets", 1, "best");
  const auto newest = served_->resolve("pets"), first = served_->resolve("pets", 1),
             best = served_->resolve("pets", 0, "best");
  ASSERT_TRUE(newest && first && best);
  EXPECT_EQ(newest->name, "pets");
  EXPECT_EQ(newest->version, 2);
  EXPECT_EQ(first->version, 1);
  EXPECT_EQ(best->version, 1);
  EXPECT_EQ(first->digest, best->digest);
  EXPECT_NE(first->digest, newest->digest);
  EXPECT_EQ(newest->digest.size(), 64u);
  EXPECT_FALSE(newest->follows);
  for (const auto& absent :
       {served_->resolve("cars"), served_->resolve("Pets"), served_->resolve("pets", 3), served_->resolve("pets", -1),
        served_->resolve("pets", 0, "worst"), served_->resolve("pets", 0, "Best"), served_->resolve("")}) {
    EXPECT_FALSE(absent);
  }
}

TEST_P(Serving, ResolvesAHiddenTaskByNumberAndTagOnly) {
  writer_->commit(sample_task("pets"));
  writer_->tag("pets", 1, "best");
  EXPECT_FALSE(served_->resolve("pets")->removed);
  writer_->remove("pets");
  EXPECT_FALSE(served_->resolve("pets"));
  EXPECT_TRUE(served_->resolve("pets", 1)->removed);
  EXPECT_TRUE(served_->resolve("pets", 0, "best")->removed);
}

TEST_F(ServedFile, RefusesATaskOfAnotherBackbone) {
  open_sqlite_store(folder_.path(), fingerprint_of("other"), false)->commit(sample_task("pets", 1, "other"));
  EXPECT_THAT(error_of(Code::kShapeMismatch, [&] { served_->resolve("pets"); }), HasSubstr(fingerprint_of("other")));
}

/// The shared numbers of a task are the newest ones, or those recorded with a version that was asked for.
TEST_P(Serving, ResolvesTheSharedNumbersAtWork) {
  const Numbers first = sample_shared(1), second = sample_shared(2);
  writer_->commit(sample_task("a"), &first, "common");
  const std::string before = digest("a");
  EXPECT_EQ(before, digest("a", 1));
  writer_->commit(sample_task("b"), &second, "common");
  EXPECT_EQ(served_->resolve("a")->follows, (SharedVersion{"common", 2}));
  EXPECT_EQ(served_->resolve("a", 1)->follows, (SharedVersion{"common", 1}));
  EXPECT_NE(digest("a"), before);
  EXPECT_EQ(digest("a", 1), before);
  writer_->rollback_shared("common", 1);
  EXPECT_EQ(served_->resolve("a")->version, 2);
  EXPECT_EQ(digest("a"), before) << "the same numbers again";
}

/// Each task differs from the sample in one thing that decides its answers.
std::vector<TaskRecord> almost_equal_tasks() {
  std::vector<TaskRecord> tasks(9, large_task("pets", 1));
  tasks[1].labels[0] = "lion";
  tasks[2].recipe["image_size"] = 32;
  tasks[3].plugs[0].options["grain"] = "block";
  tasks[4].numbers.at("head", Scope::kTask).set("seen", std::int64_t{7});
  tasks[5].numbers.at("head", Scope::kTask).set("bias", at::full({3}, 0.25));
  tasks[6].numbers.at("recast", Scope::kTask).set("w", at::full({(1 << 18) + 1}, 2, at::kFloat));
  tasks[7].numbers.at("recast", Scope::kTask).set("w", at::full({(1 << 18) + 1, 1}, 1, at::kFloat));
  std::swap(tasks[8].labels[0], tasks[8].labels[1]);
  return tasks;
}

TEST_P(Serving, TheDigestCoversAllThatDecidesTheAnswersAndNothingElse) {
  std::set<std::string> digests;
  for (const TaskRecord& task : almost_equal_tasks()) {
    const std::int64_t version = writer_->commit(task);
    digests.insert(digest("pets"));
    EXPECT_EQ(static_cast<std::int64_t>(digests.size()), version);
  }
  const std::string first = digest("pets", 1);
  writer_->rollback("pets", 1);
  EXPECT_EQ(digest("pets"), first) << "a copy answers alike";
  writer_->purge("pets");
  EXPECT_EQ(digest("pets"), "none");
  writer_->commit(sample_task("pets", 9));
  EXPECT_NE(digest("pets", 1), first) << "another task under the same name and number";
  writer_->purge("pets");
  writer_->commit(large_task("pets", 1));
  EXPECT_EQ(digest("pets", 1), first) << "the same bits again";
}

TEST_P(Serving, LoadsWhatWasResolvedOrNothing) {
  const Numbers first = sample_shared(1), second = sample_shared(2);
  writer_->commit(sample_task("a", 1), &first, "common");
  const Resolved resolved = *served_->resolve("a");
  writer_->commit(sample_task("a", 2), &second, "common");
  writer_->remove("a");
  const auto task = served_->load(resolved);
  ASSERT_TRUE(task);
  EXPECT_EQ(task->version, 1);
  EXPECT_EQ(task->follows, resolved.follows);
  EXPECT_TRUE(equal(task->numbers.only(Scope::kTask), sample_task("a", 1).numbers));
  EXPECT_TRUE(equal(task->numbers.only(Scope::kShared), first));
  writer_->purge("a");
  EXPECT_FALSE(served_->load(resolved));
  writer_->commit(sample_task("a", 3), &first, "common");
  EXPECT_FALSE(served_->load(resolved)) << "learned again: another task under the same name and number";
  Resolved pets = *served_->resolve("a");
  EXPECT_TRUE(served_->load(pets));
  pets.digest.back() = pets.digest.back() == '0' ? '1' : '0';
  EXPECT_FALSE(served_->load(pets));
}

// ---- changes() ----

TEST_P(Serving, SeesEachKindOfCommitFromTheNextCallOn) {
  const Numbers shared = sample_shared(1);
  const std::vector<std::function<void(TaskStore&)>> commits = {
      [](TaskStore& store) { store.commit(sample_task("pets", 1)); },
      [](TaskStore& store) { store.commit(sample_task("pets", 2)); },
      [](TaskStore& store) { store.tag("pets", 1, "best"); },
      [](TaskStore& store) { store.tag("pets", 2, "best", true); },
      [](TaskStore& store) { store.untag("pets", "best"); },
      [](TaskStore& store) { store.rollback("pets", 1); },
      [](TaskStore& store) { store.remove("pets"); },
      [&](TaskStore& store) { store.commit(sample_task("a"), &shared, "common"); },
      [](TaskStore& store) { store.rollback_shared("common", 1); },
      [](TaskStore& store) { store.purge("pets"); }};
  for (std::size_t i = 0; i < commits.size(); ++i) {
    const std::int64_t served = served_->changes(), own = writer_->changes();
    commits[i](*writer_);
    EXPECT_NE(writer_->changes(), own) << "commit " << i << ", of this store";
    EXPECT_TRUE(changed(*served_, served)) << "commit " << i;
  }
}

TEST_P(Serving, SeesNoChangeWhereNobodyCommits) {
  writer_->commit(sample_task("pets"));
  writer_->changes();
  served_->changes();
  std::this_thread::sleep_for(std::chrono::milliseconds(100));  // news that travel have come
  const std::int64_t own = writer_->changes(), served = served_->changes();
  served_->load("pets");
  served_->list();
  error_of(Code::kNotFound, [&] { writer_->remove("cars"); });
  EXPECT_EQ(served_->changes(), served);
  EXPECT_EQ(writer_->changes(), own);
}

TEST_P(Serving, SeesTheCommitsOfAnotherProcess) {
  at::set_num_threads(1);
  writer_->commit(sample_task("pets", 1));
  writer_.reset();
  served_ = place().serve();
  const std::int64_t before = served_->changes();
  const pid_t child = ::fork();
  if (child == 0) {
    int status = 1;
    try {
      place().open()->commit(sample_task("pets", 2));
      status = 0;
    } catch (const std::exception& error) {
      fmt::print(stderr, "{}\n", error.what());
    }
    ::_exit(status);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  EXPECT_TRUE(changed(*served_, before));
  EXPECT_EQ(served_->resolve("pets")->version, 2);
  EXPECT_TRUE(equal(served_->load("pets")->numbers, sample_task("pets", 2).numbers));
}

TEST_P(Serving, AsksForChangesInMicroseconds) {
  using Clock = std::chrono::steady_clock;
  writer_->commit(sample_task("pets"));
  served_->changes();
  std::this_thread::sleep_for(std::chrono::milliseconds(100));  // news that travel have come
  const std::int64_t before = served_->changes();
  constexpr int kCalls = 20'000;
  const auto start = Clock::now();
  for (int i = 0; i < kCalls; ++i) ASSERT_EQ(served_->changes(), before);
  const double us = std::chrono::duration<double, std::micro>(Clock::now() - start).count() / kCalls;
  fmt::print("changes(): {:.2f} us\n", us);
  EXPECT_LT(us, 200);
}

TEST_P(Served, AppearsWhenTheFirstTaskIsLearned) {
  const auto served = place().serve();
  const std::int64_t before = served->changes();
  EXPECT_EQ(served->changes(), before);
  EXPECT_FALSE(served->resolve("pets"));
  EXPECT_TRUE(served->names_after("", 10).empty());
  EXPECT_TRUE(place().untouched());
  const auto writer = place().open();
  writer->commit(sample_task("pets"));
  EXPECT_TRUE(changes_from(*served, before, GetParam()));
  EXPECT_TRUE(served->load("pets"));
  const std::int64_t then = served->changes();
  writer->commit(sample_task("pets", 2));
  EXPECT_TRUE(changes_from(*served, then, GetParam()));
  EXPECT_EQ(served->resolve("pets")->version, 2);
}

TEST(ServedStore, OfAnOlderSchemaIsReadAndFollowedWhenItIsBroughtUpToDate) {
  const fs::path released = fs::path(RECAST_SOURCE_DIR) / "tests/store/released/schema-1";
  const TemporaryFolder folder;
  fs::copy(released, folder.path(), fs::copy_options::recursive);
  const std::string fingerprint = sha256_hex("released");
  const auto served = open_sqlite_store(folder.path(), fingerprint, true, Disk::kLocal, Verify::kAsRead);
  const std::int64_t before = served->changes();
  EXPECT_EQ(served->resolve("pets")->version, 3);
  EXPECT_EQ(served->load("pets")->version, 3);
  TaskRecord next = sample_task("pets");
  next.fingerprint = fingerprint;
  EXPECT_EQ(open_sqlite_store(folder.path(), fingerprint, false)->commit(next), 4);
  EXPECT_NE(served->changes(), before);
  EXPECT_EQ(served->resolve("pets")->version, 4);
  EXPECT_TRUE(equal(served->load("pets")->numbers, next.numbers));
}

TEST_F(ServedFile, SaysThatItsFileWasReplacedOrTakenAway) {
  writer_->commit(sample_task("pets", 1));
  const TemporaryFolder other;
  open_store(other.path())->commit(sample_task("pets", 2));
  EXPECT_TRUE(served_->load("pets"));
  served_->changes();
  fs::rename(folder_ / "tasks.db", folder_ / "old");
  EXPECT_THAT(error_of(Code::kUnavailable, [&] { served_->changes(); }), HasSubstr("taken away"));
  fs::rename(other / "tasks.db", folder_ / "tasks.db");
  for (const auto& call :
       std::vector<std::function<void()>>{[&] { served_->changes(); }, [&] { served_->load("pets"); },
                                          [&] { served_->resolve("pets"); }, [&] { served_->names_after("", 1); }}) {
    EXPECT_THAT(error_of(Code::kUnavailable, call), HasSubstr("replaced by another file while it was open"));
  }
  writer_.reset();
  served_.reset();  // neither moves its log into the file of another
  for (const char* log : {"tasks.db-wal", "tasks.db-shm"}) fs::remove(folder_ / log);
  served_ = open_store(folder_.path(), true, Verify::kAsRead);
  EXPECT_TRUE(equal(served_->load("pets")->numbers, sample_task("pets", 2).numbers));
}

// ---- names ----

TEST_P(Serving, ListsVisibleNamesInPagesInTheOrderOfTheirBytes) {
  const Numbers shared = sample_shared(1);
  for (const char* name : {"b", "a", "Z", "a-1", "a.1", "hidden", "gone", "0"}) writer_->commit(sample_task(name));
  writer_->commit(sample_task("a", 2));
  writer_->commit(sample_task("follower"), &shared, "common");
  writer_->rollback_shared("common", 1);
  writer_->remove("hidden");
  writer_->purge("gone");
  EXPECT_THAT(text_of(served_->names_after("", 100)),
              ElementsAre("0:1", "Z:1", "a:2", "a-1:1", "a.1:1", "b:1", "follower:2"));
  std::vector<std::string> paged;
  for (auto page = served_->names_after("", 2); !page.empty(); page = served_->names_after(page.back().name, 2)) {
    for (const std::string& text : text_of(page)) paged.push_back(text);
  }
  EXPECT_EQ(paged, text_of(served_->names_after("", 100)));
  EXPECT_THAT(text_of(served_->names_after("a-", 1)), ElementsAre("a-1:1")) << "a name that there is not";
  EXPECT_TRUE(served_->names_after("follower", 1).empty());
  error_of(Code::kInvalidArgument, [&] { served_->names_after("", 0); });
}

// ---- beside others ----

TEST_P(Serving, ManyThreadsLoadWholeVersionsWhileAnotherWrites) {
  writer_->commit(sample_task("pets", 1));
  std::atomic<bool> done = false;
  std::atomic<std::int64_t> loads = 0;
  const auto load = [&] {
    for (std::int64_t seen = 1; !done || loads < 100; ++loads) {
      const auto resolved = served_->resolve("pets");
      ASSERT_TRUE(resolved);
      const auto task = served_->load(*resolved);
      ASSERT_TRUE(task);
      ASSERT_EQ(task->version, resolved->version);
      ASSERT_GE(task->version, seen);
      seen = task->version;
      ASSERT_TRUE(equal(task->numbers, sample_task("pets", seen).numbers));
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 12; ++i) threads.emplace_back(load);  // more than there are connections
  for (std::int64_t seed = 2; seed <= 60; ++seed) writer_->commit(sample_task("pets", seed));
  done = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(served_->load("pets")->version, 60);
}

/// The tensor goes while the task is loaded: what comes is one whole task or none.
void load_while_purged(const StorePlace& place, Verify verify) {
  const auto writer = place.open(), served = place.open(true, "base", verify);
  std::atomic<bool> done = false;
  std::thread purging([&] {
    for (std::int64_t value = 1; !done; ++value) {
      writer->commit(large_task("pets", value));
      writer->purge("pets");
    }
  });
  int whole = 0, absent = 0;
  const auto start = std::chrono::steady_clock::now();
  while ((whole < 20 || absent < 20) && std::chrono::steady_clock::now() - start < std::chrono::seconds(20)) {
    try {
      const auto task = served->load("pets");
      ++(task ? whole : absent);
      if (!task) continue;
      const at::Tensor& w = task->numbers.at("recast", Scope::kTask).tensor("w");
      EXPECT_EQ(w.numel(), (1 << 18) + 1);
      EXPECT_TRUE(w.eq(w[0]).all().item<bool>());
    } catch (const Error& error) {
      ADD_FAILURE() << error.what();
      break;
    }
  }
  done = true;
  purging.join();
  EXPECT_GE(whole, 1);
  EXPECT_GE(absent, 1);
}

TEST_P(Served, GivesAWholeTaskOrNoneWhileItIsPurgedAndLearnedAgain) {
  for (const Verify verify : {Verify::kWhole, Verify::kAsRead}) {
    const StorePlace fresh(GetParam());
    load_while_purged(fresh, verify);
  }
}

TEST_F(ServedFile, NamesATensorThatIsMissingForGood) {
  writer_->commit(large_task("pets", 1));
  const Resolved resolved = *served_->resolve("pets");
  const fs::path blob = fs::directory_iterator(folder_ / "blobs")->path();
  fs::remove(blob);
  for (const auto& call :
       std::vector<std::function<void()>>{[&] { served_->load("pets"); }, [&] { served_->load(resolved); }})
    EXPECT_THAT(error_of(Code::kDataCorruption, call), HasSubstr(blob.filename().string()));
  EXPECT_TRUE(served_->resolve("pets")) << "from the rows alone";
}

TEST_P(Serving, ReadsInParallelAndWritesInAStoreThatIsOpenedForBoth) {
  const auto both = place().open(false, "base", Verify::kAsRead);
  const std::int64_t before = both->changes();
  EXPECT_EQ(both->commit(sample_task("pets", 1)), 1);
  EXPECT_NE(both->changes(), before);
  EXPECT_TRUE(equal(both->load("pets")->numbers, sample_task("pets", 1).numbers));
  EXPECT_EQ(both->list().size(), 1u);
  EXPECT_EQ(both->log("pets").size(), 1u);
}

RECAST_FOR_EVERY_STORE(Serving);
RECAST_FOR_EVERY_STORE(Served);

}  // namespace
}  // namespace recast
