// Promise P2: whatever call fails, once or from then on, is a typed error or no error; old tasks stay as they are.
#include <ATen/Parallel.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include <array>
#include <exception>
#include <fstream>
#include <new>

#include "fault_layer.h"
#include "format/expect_error.h"
#include "recast/store/check_store.h"
#include "store_script.h"

namespace recast {
namespace {

using fault::Fault;

enum Exit { kGood = 0, kNotReached = 7, kWrong = 3, kTerminated = 8 };

/// Performs an operation while calls fail. False: a typed error. Anything else that is thrown ends the child.
bool attempt(const std::function<void()>& work) {
  struct Spared {
    Spared() { fault::spare_memory(false); }
    ~Spared() { fault::spare_memory(true); }
  } const afterwards;
  try {
    work();
    return true;
  } catch (const Error& error) {
    if (error.code() == Code::kInternal || error.code() == Code::kDataCorruption) throw;
    return false;
  } catch (const std::bad_alloc&) {  // not even the message fits
    return false;
  }
}

/// All that the store may hold: an operation that failed was done or was not.
class Possible {
 public:
  void done(const Operation& operation) {
    for (ExpectedStore& store : stores_) store.apply(operation);
  }
  void in_doubt(const Operation& operation) {
    const std::vector<ExpectedStore> before = stores_;
    done(operation);
    for (const ExpectedStore& store : before) {
      if (std::find(stores_.begin(), stores_.end(), store) == stores_.end()) stores_.push_back(store);
    }
  }
  const std::vector<ExpectedStore>& stores() const { return stores_; }
  /// Old tasks are there, bit for bit, or the store says that it cannot read them.
  bool readable(const TaskStore& store) const {
    bool good = true;
    try {
      attempt([&] {
        good = std::any_of(stores_.begin(), stores_.end(), [&](const auto& s) { return difference(s, store).empty(); });
      });
    } catch (const c10::Error&) {  // no memory for the tensors that the store's are compared with
    }
    return good;
  }

 private:
  std::vector<ExpectedStore> stores_{ExpectedStore{}};
};

/// The script in this process while the plan holds. After the first failure: reads through the same store, tries once
/// more, then opens the store again for the rest.
int run(const std::filesystem::path& folder, const Script& script, const fault::Plan& plan, int pipe) try {
  Possible possible;
  std::unique_ptr<TaskStore> store = open_for_writing(folder);
  for (std::size_t i = 0; i < 4; ++i) {
    perform(*store, script.operations[i]);
    possible.done(script.operations[i]);
    acknowledge(pipe);
  }
  store.reset();
  fault::watch(folder.string());
  fault::arm(plan);
  fault::spare_memory(true);
  attempt([&] { store = open_for_writing(folder); });
  int failures = store == nullptr;
  for (std::size_t i = 4; i < script.operations.size() && failures < 3; ++i) {
    if (store == nullptr && !attempt([&] { store = open_for_writing(folder); })) break;
    const Operation& operation = script.operations[i];
    const TaskRecord task = numbered_task(operation.name, operation.seed, operation.large);
    const Numbers shared = sample_shared(static_cast<double>(operation.seed));
    if (attempt([&] { perform(*store, operation, task, shared); })) {
      possible.done(operation);
      acknowledge(pipe);
      continue;
    }
    ++failures;
    possible.in_doubt(operation);
    if (!possible.readable(*store)) return fmt::print(stderr, "old tasks changed\n"), kWrong;
    break;
  }
  store.reset();
  const bool reached = fault::failed() > 0;
  fault::disarm();
  const std::string text = judge(folder, possible.stores());
  if (!text.empty()) return fmt::print(stderr, "{}\n", text), kWrong;
  return reached ? kGood : kNotReached;
} catch (const std::exception& error) {
  fault::disarm();
  fmt::print(stderr, "{}\n", error.what());
  return kWrong;
}

struct Case {
  const char* what;
  unsigned calls;
  std::vector<int> errors;
  std::int64_t step;  ///< of the short form
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.what; }

class TaskStoreFailingCall : public ::testing::TestWithParam<Case> {};

TEST_P(TaskStoreFailingCall, IsATypedErrorAndLeavesOldTasksAsTheyWere) {
  at::set_num_threads(1);
  const auto& [what, calls, errors, short_step] = GetParam();
  const Script script;
  const std::int64_t step = !in_full() ? short_step : calls == fault::kMemory ? 23 : 1;
  std::int64_t points = 0;
  // nlohmann::json asks for memory in its destructor, where a refusal ends the process: the store must survive that as
  // it survives a kill.
  std::int64_t terminated = 0;
  for (const int error : errors) {
    for (const bool persistent : {false, true}) {
      for (std::int64_t nth = 1;; nth += step) {
        const TemporaryFolder folder;
        Child child([&](int pipe) {
          std::set_terminate([] { ::_exit(kTerminated); });
          return run(folder.path(), script, {calls, nth, Fault::kFail, error, persistent}, pipe);
        });
        const std::size_t done = child.finish();
        if (child.status() == kNotReached) break;
        ++points;
        if (calls == fault::kMemory && child.status() == kTerminated) {
          ++terminated;
          ASSERT_EQ(
              judge(folder.path(), {script.after[done], script.after[std::min(done + 1, script.operations.size())]}),
              "")
              << "request " << nth;
          continue;
        }
        ASSERT_EQ(child.status(), kGood) << what << " number " << nth << ", errno " << error
                                         << (persistent ? ", from then on" : ", once");
      }
    }
  }
  fmt::print("{}: {} failures, {} of which ended the process in a destructor\n", what, points, terminated);
  EXPECT_LE(terminated, points / 2);
  EXPECT_GT(points, 1) << "too few calls: does the layer see them?";
}

INSTANTIATE_TEST_SUITE_P(All, TaskStoreFailingCall,
                         testing::Values(Case{"write", fault::kWrite, {ENOSPC, EDQUOT, EIO}, 37},
                                         Case{"sync", fault::kSync, {EIO, ENOSPC, EDQUOT}, 9},
                                         Case{"rename", fault::kRename, {EIO, ENOSPC, EACCES}, 1},
                                         Case{"open", fault::kOpen, {EMFILE, EACCES, EROFS, ENOSPC}, 11},
                                         Case{"truncate", fault::kTruncate, {EIO, ENOSPC}, 3},
                                         Case{"unlink", fault::kUnlink, {EIO, EACCES}, 2},
                                         Case{"mkdir", fault::kFolder, {ENOSPC, EACCES, EROFS, EDQUOT}, 1},
                                         Case{"map", fault::kMap, {ENOMEM}, 2}, Case{"close", fault::kClose, {EIO}, 5},
                                         Case{"memory", fault::kMemory, {ENOMEM}, 1511}),
                         [](const auto& info) { return std::string(info.param.what); });

// ---- a real disk that is full, or for reading only ----

/// In a child with a mount table of its own. kNotReached: not allowed here.
int with_tmpfs(const std::string& options, const std::function<void(const std::filesystem::path&)>& work) {
  const TemporaryFolder folder;
  Child child([&](int) {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("none", folder.path().c_str(), "tmpfs", 0, options.c_str()) != 0)
      return kNotReached;
    work(folder.path());
    return testing::Test::HasFailure() ? kWrong : kGood;
  });
  child.finish();
  return child.status();
}

#define RECAST_EXPECT_GOOD_OR_SKIP(status)                                             \
  do {                                                                                 \
    const int got = (status);                                                          \
    if (got == kNotReached) GTEST_SKIP() << "needs the right to mount a tmpfs (root)"; \
    EXPECT_EQ(got, kGood);                                                             \
  } while (false)

void fill(const std::filesystem::path& file) {
  std::ofstream out(file, std::ios::binary);
  while (out << std::string(4096, 'x') << std::flush) {
  }
}

TEST(TaskStoreFullDisk, KeepsOldTasksSaysWhatItNeedsAndWorksAgainWithRoom) {
  at::set_num_threads(1);
  RECAST_EXPECT_GOOD_OR_SKIP(with_tmpfs("size=6m", [](const auto& folder) {
    ExpectedStore expected;
    const auto store = open_for_writing(folder);
    for (const bool large : {false, true}) {
      const Operation first{.name = large ? "big" : "old", .seed = 1, .large = large};
      perform(*store, first);
      expected.apply(first);
    }
    fill(folder / "filler");
    for (const bool large : {true, false}) {
      int failures = 0;
      for (int i = 0; i < 20 && failures == 0; ++i) {  // the log has room for a few small commits
        const Operation next{.name = "new", .seed = 2 + i, .large = large};
        try {
          perform(*store, next);
          expected.apply(next);
        } catch (const Error& error) {
          ++failures;
          EXPECT_EQ(error.code(), Code::kUnavailable) << error.what();
          EXPECT_THAT(error.what(), testing::ContainsRegex("[0-9]+ bytes"));
        }
      }
      EXPECT_GT(failures, 0);
      EXPECT_EQ(difference(expected, *store), "");
    }
    EXPECT_EQ(difference(expected, *open_sqlite_store(folder, fingerprint_of("base"), true)), "");
    std::filesystem::remove(folder / "filler");
    const Operation after{.name = "new", .seed = 99, .large = true};
    perform(*store, after);
    expected.apply(after);
    EXPECT_EQ(judge(folder, {expected}), "");
  }));
}

TEST(TaskStoreFullDisk, IsReadByAProcessThatStartsWhenNothingIsLeft) {
  at::set_num_threads(1);
  RECAST_EXPECT_GOOD_OR_SKIP(with_tmpfs("size=6m", [](const auto& folder) {
    ExpectedStore expected;
    const Operation first{.name = "old", .seed = 1, .large = true};
    perform(*open_for_writing(folder), first);  // closed again: neither log nor index is there
    expected.apply(first);
    fill(folder / "filler");
    EXPECT_EQ(difference(expected, *open_sqlite_store(folder, fingerprint_of("base"), true)), "");
    EXPECT_TRUE(check_store(folder).faults.empty());
    EXPECT_THAT(error_of(Code::kUnavailable, [&] { open_for_writing(folder)->commit(sample_task("new")); }),
                testing::ContainsRegex("the disk is full.*[0-9]+ bytes"));
    std::filesystem::remove(folder / "filler");
    EXPECT_EQ(open_for_writing(folder)->commit(sample_task("new")), 1);
  }));
}

TEST(TaskStoreFullDisk, NamesTheReasonWhenNoFileCanBeMade) {
  at::set_num_threads(1);
  RECAST_EXPECT_GOOD_OR_SKIP(with_tmpfs("size=6m,nr_inodes=5", [](const auto& folder) {
    const auto store = open_for_writing(folder);  // the folder, the database, its log and index: one is left
    store->commit(sample_task("old"));
    std::ofstream(folder / "last") << "x";
    EXPECT_THAT(error_of(Code::kUnavailable, [&] { store->commit(numbered_task("big", 1, true)); }),
                testing::HasSubstr("No space left"));
    EXPECT_TRUE(store->load("old"));
    EXPECT_EQ(store->commit(sample_task("old")), 2);
  }));
}

TEST(TaskStoreFullDisk, ReadsFromAReadOnlyMountAndRefusesToWrite) {
  at::set_num_threads(1);
  RECAST_EXPECT_GOOD_OR_SKIP(with_tmpfs("size=6m", [](const auto& folder) {
    ExpectedStore expected;
    const Operation first{.name = "old", .seed = 1, .large = true};
    perform(*open_for_writing(folder), first);
    expected.apply(first);
    ASSERT_EQ(::mount(nullptr, folder.c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr), 0);
    EXPECT_EQ(difference(expected, *open_sqlite_store(folder, fingerprint_of("base"), true)), "");
    error_of(Code::kUnavailable, [&] { open_for_writing(folder)->commit(sample_task("new")); });
  }));
}

std::unique_ptr<TaskStore> serve(const std::filesystem::path& folder) {
  return open_sqlite_store(folder, fingerprint_of("base"), true, Disk::kLocal, Verify::kAsRead);
}

TEST(TaskStoreFullDisk, ServesFromAReadOnlyMountAndSeesWhatWasCommittedWhenItCouldBeWritten) {
  at::set_num_threads(1);
  RECAST_EXPECT_GOOD_OR_SKIP(with_tmpfs("size=6m", [](const auto& folder) {
    const auto remount = [&](unsigned long flags) {
      return ::mount(nullptr, folder.c_str(), nullptr, MS_REMOUNT | flags, nullptr);
    };
    open_for_writing(folder)->commit(sample_task("old", 1));
    ASSERT_EQ(remount(MS_RDONLY), 0);
    const auto store = serve(folder);
    const std::int64_t before = store->changes();
    EXPECT_EQ(store->changes(), before);
    EXPECT_TRUE(equal(store->load("old")->numbers, sample_task("old", 1).numbers));
    ASSERT_EQ(remount(0), 0);
    {
      const auto writer = open_for_writing(folder);
      writer->commit(sample_task("old", 2));
      EXPECT_NE(store->changes(), before) << "while there is a log";
      EXPECT_EQ(store->resolve("old")->version, 2);
    }
    open_for_writing(folder)->commit(sample_task("old", 3));
    EXPECT_EQ(store->resolve("old")->version, 3);
  }));
}

TEST(TaskStoreFullDisk, ServesWhereNothingIsLeftAndGoesOnWithRoom) {
  at::set_num_threads(1);
  RECAST_EXPECT_GOOD_OR_SKIP(with_tmpfs("size=6m", [](const auto& folder) {
    open_for_writing(folder)->commit(sample_task("old", 1));
    fill(folder / "filler");
    const auto store = serve(folder);
    const std::int64_t before = store->changes();
    EXPECT_TRUE(equal(store->load("old")->numbers, sample_task("old", 1).numbers));
    EXPECT_EQ(store->names_after("", 9).size(), 1u);
    std::filesystem::remove(folder / "filler");
    open_for_writing(folder)->commit(sample_task("old", 2));
    EXPECT_NE(store->changes(), before);
    EXPECT_TRUE(equal(store->load("old")->numbers, sample_task("old", 2).numbers));
  }));
}

/// Permissions mean nothing to root.
TEST(TaskStoreFullDisk, NamesFilesAndFoldersThatItMayNotWrite) {
  at::set_num_threads(1);
  const TemporaryFolder folder;
  open_for_writing(folder.path())->commit(sample_task("old"));
  std::filesystem::permissions(folder.path(), std::filesystem::perms(0755));
  std::filesystem::permissions(folder / "tasks.db", std::filesystem::perms(0644));
  const auto as_stranger = [&] {
    Child child([&](int) {
      if (::getuid() == 0 && ::setuid(65534) != 0) return kNotReached;
      error_of(Code::kUnavailable, [&] { open_for_writing(folder.path())->commit(sample_task("new")); });
      try {
        const auto store = open_sqlite_store(folder.path(), fingerprint_of("base"), true);
        EXPECT_TRUE(store->load("old"));
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), Code::kUnavailable) << error.what();
        EXPECT_THAT(error.what(), testing::HasSubstr("tasks.db"));
      }
      return testing::Test::HasFailure() ? kWrong : kGood;
    });
    child.finish();
    return child.status();
  };
  if (::getuid() != 0) GTEST_SKIP() << "needs root, to become another user";
  EXPECT_EQ(as_stranger(), kGood) << "of another owner";
  std::filesystem::permissions(folder / "tasks.db", std::filesystem::perms(0600));
  EXPECT_EQ(as_stranger(), kGood) << "not to be read";
  std::filesystem::permissions(folder / "tasks.db", std::filesystem::perms(0666));
  EXPECT_EQ(as_stranger(), kGood) << "in a folder that is not to be written";
}

// ---- other machines ----

TEST(TaskStoreNetwork, RefusesFileSystemsThatOtherMachinesShareUnlessForced) {
  const TemporaryFolder folder;
  open_for_writing(folder.path())->commit(sample_task("old"));
  for (const std::uint32_t magic : {0x6969u, 0xFF534D42u, 0x65735546u, 0x01021997u}) {
    fault::pretend_file_system(magic);
    for (const bool read_only : {false, true}) {
      const auto open = [&](Disk disk) {
        return open_sqlite_store(folder.path(), fingerprint_of("base"), read_only, disk);
      };
      EXPECT_THAT(error_of(Code::kUnsupported, [&] { open(Disk::kLocal); }),
                  testing::HasSubstr("RECAST_NETWORK_STORE=allow"));
      EXPECT_TRUE(open(Disk::kAny)->load("old"));
      ::setenv("RECAST_NETWORK_STORE", "allow", 1);
      EXPECT_TRUE(open(Disk::kLocal)->load("old"));
      ::unsetenv("RECAST_NETWORK_STORE");
    }
    const TemporaryFolder without;
    EXPECT_TRUE(open_sqlite_store(without.path(), fingerprint_of("base"), true)->list().empty());
  }
  fault::pretend_file_system(0);
}

}  // namespace
}  // namespace recast
