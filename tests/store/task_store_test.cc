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

constexpr std::int64_t kOverOneMiB = (1 << 18) + 1;  // of fp32

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

TaskRecord large_task(const std::string& name, double value = 1) {
  TaskRecord task = sample_task(name);
  task.numbers.at("recast", Scope::kTask).set("w", at::full({kOverOneMiB}, value));
  return task;
}

std::vector<std::string> blob_names(const TemporaryFolder& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder / "blobs"))
    names.push_back(entry.path().filename());
  return names;
}

std::vector<std::string> names_of(const std::vector<TaskSummary>& tasks) {
  std::vector<std::string> names;
  for (const TaskSummary& task : tasks) names.push_back(task.name);
  return names;
}

double shared_value(const TaskRecord& task) {
  return task.numbers.at("recast", Scope::kShared).tensor("memory")[0].item<double>();
}

TEST(TaskStore, GivesBackWhatWasCommittedBitForBit) {
  const TemporaryFolder folder;
  TaskRecord task = sample_task("pets");
  task.numbers.at("recast", Scope::kTask) = awkward_numbers();
  EXPECT_EQ(open_store(folder)->commit(task), 1);
  const auto back = open_store(folder, true)->load("pets");
  ASSERT_TRUE(back);
  EXPECT_TRUE(same_bits(back->numbers.at("recast", Scope::kTask), awkward_numbers()));
  EXPECT_TRUE(equal(back->numbers, task.numbers));
  EXPECT_EQ(back->labels, task.labels);
  EXPECT_EQ(back->plugs, task.plugs);
  EXPECT_EQ(back->recipe, task.recipe);
  EXPECT_EQ(back->metrics, task.metrics);
  EXPECT_EQ(back->data, task.data);
  EXPECT_EQ(back->version, 1);
  EXPECT_EQ(back->parent, 0);
  EXPECT_EQ(back->created_utc.size(), 20u);
  EXPECT_FALSE(back->follows);
}

TEST(TaskStore, KeepsEveryVersion) {
  const TemporaryFolder folder;
  const auto store = open_store(folder);
  for (std::int64_t seed = 1; seed <= 5; ++seed) EXPECT_EQ(store->commit(sample_task("pets", seed)), seed);
  for (std::int64_t seed = 1; seed <= 5; ++seed) {
    const auto task = store->load("pets", seed);
    ASSERT_TRUE(task);
    EXPECT_TRUE(equal(task->numbers, sample_task("pets", seed).numbers));
    EXPECT_EQ(task->parent, seed - 1);
  }
  EXPECT_EQ(store->load("pets")->version, 5);
  EXPECT_FALSE(store->load("pets", 6));
  EXPECT_FALSE(store->load("pets", -1));
  EXPECT_FALSE(store->load("Pets"));
}

TEST(TaskStore, SumsUpItsTasks) {
  const TemporaryFolder folder;
  const auto store = open_store(folder);
  store->commit(sample_task("b"));
  store->commit(sample_task("a"));
  store->commit(sample_task("b", 2));
  const auto tasks = store->list();
  ASSERT_EQ(names_of(tasks), (std::vector<std::string>{"a", "b"}));
  const TaskSummary& b = tasks[1];
  EXPECT_EQ(b.version, 2);
  EXPECT_EQ(b.versions, 2);
  EXPECT_FALSE(b.removed);
  EXPECT_EQ(b.state_bytes, 4 * 4 + 3 * 4);
  EXPECT_GT(b.file_bytes, b.state_bytes);
  EXPECT_EQ(b.classes, 3);
  EXPECT_EQ(b.plugs, sample_task("b").plugs);
  EXPECT_EQ(b.metrics, sample_task("b").metrics);
  const auto log = store->log("b");
  ASSERT_EQ(log.size(), 2u);
  EXPECT_EQ(log[0].version, 1);
  EXPECT_EQ(log[1].version, 2);
}

TEST(TaskStore, HidesAndShowsTasks) {
  const TemporaryFolder folder;
  const auto store = open_store(folder);
  store->commit(sample_task("pets", 1));
  store->commit(sample_task("pets", 2));
  store->remove("pets");
  EXPECT_FALSE(store->load("pets"));
  EXPECT_TRUE(store->load("pets", 2));
  EXPECT_TRUE(store->list().empty());
  EXPECT_TRUE(store->list(true).at(0).removed);
  error_of(Code::kNotFound, [&] { store->remove("pets"); });
  EXPECT_EQ(store->rollback("pets", 1), 3);
  const auto back = store->load("pets");
  ASSERT_TRUE(back);
  EXPECT_EQ(back->parent, 1);
  EXPECT_TRUE(equal(back->numbers, sample_task("pets", 1).numbers));
  store->remove("pets");
  EXPECT_EQ(store->commit(sample_task("pets", 4)), 4);
  EXPECT_EQ(names_of(store->list()), (std::vector<std::string>{"pets"}));
}

TEST(TaskStore, ErasesTasksWithTheirFiles) {
  const TemporaryFolder folder;
  const auto store = open_store(folder);
  store->commit(large_task("pets", 1));
  store->commit(large_task("cars", 2));
  ASSERT_EQ(blob_names(folder).size(), 2u);
  store->purge("pets");
  EXPECT_EQ(blob_names(folder).size(), 1u);
  EXPECT_FALSE(store->load("pets", 1));
  EXPECT_EQ(names_of(store->list(true)), (std::vector<std::string>{"cars"}));
  EXPECT_TRUE(store->load("cars"));
  EXPECT_EQ(store->commit(sample_task("PETS")), 1);
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

TEST(TaskStore, NamesTheNearestTask) {
  const TemporaryFolder folder;
  const auto store = open_store(folder);
  store->commit(sample_task("flowers"));
  for (const auto& call :
       std::vector<std::function<void()>>{[&] { store->remove("flower"); }, [&] { store->purge("flower"); },
                                          [&] { store->log("flower"); }, [&] { store->rollback("flower", 1); }}) {
    EXPECT_THAT(error_of(Code::kNotFound, call), HasSubstr("did you mean 'flowers'?"));
  }
  EXPECT_THAT(error_of(Code::kNotFound, [&] { store->rollback("flowers", 2); }), HasSubstr("no version 2"));
}

TEST(TaskStore, RefusesTasksOfAnotherBackboneAndNamesBoth) {
  const TemporaryFolder folder;
  const auto both = AllOf(HasSubstr(fingerprint_of("base")), HasSubstr(fingerprint_of("other")));
  const auto foreign = sample_task("pets", 1, "other");
  EXPECT_THAT(error_of(Code::kShapeMismatch, [&] { open_store(folder)->commit(foreign); }), both);
  EXPECT_THAT(error_of(Code::kShapeMismatch, [&] { import_task(*open_store(folder), foreign); }), both);
  EXPECT_TRUE(open_store(folder)->list().empty());
  open_store(folder)->commit(sample_task("pets"));
  EXPECT_THAT(error_of(Code::kShapeMismatch, [&] { open_store(folder, true, "other")->load("pets"); }), both);
  EXPECT_THAT(error_of(Code::kShapeMismatch, [&] { open_store(folder, false, "other")->rollback("pets", 1); }), both);
}

TEST(TaskStore, RefusesNamesThatDifferInCaseOnly) {
  const TemporaryFolder folder;
  const auto store = open_store(folder);
  store->commit(sample_task("Pets"));
  EXPECT_THAT(error_of(Code::kAlreadyExists, [&] { store->commit(sample_task("pETS")); }), HasSubstr("'Pets'"));
  error_of(Code::kInvalidArgument, [&] { store->commit(sample_task("../pets")); });
  EXPECT_EQ(store->list(true).size(), 1u);
}

// ---- shared states ----

TEST(TaskStore, LetsTasksFollowTheNewestSharedState) {
  const TemporaryFolder folder;
  const auto store = open_store(folder);
  const Numbers first = sample_shared(1), second = sample_shared(2);
  store->commit(sample_task("a"), &first, "common");
  store->commit(sample_task("b"), &second, "common");
  const auto a = store->load("a");
  EXPECT_EQ(a->follows, (SharedVersion{"common", 2}));
  EXPECT_EQ(shared_value(*a), 2);
  const auto then = store->load("a", 1);
  EXPECT_EQ(then->follows, (SharedVersion{"common", 1}));
  EXPECT_EQ(shared_value(*then), 1);
  EXPECT_TRUE(equal(*store->shared("common"), second));
  EXPECT_FALSE(store->shared("other"));
}

TEST(TaskStore, FollowsWithoutANewVersion) {
  const TemporaryFolder folder;
  const auto store = open_store(folder);
  error_of(Code::kNotFound, [&] { store->commit(sample_task("b"), nullptr, "common"); });
  const Numbers numbers = sample_shared(1);
  store->commit(sample_task("a"), &numbers, "common");
  store->commit(sample_task("b"), nullptr, "common");
  EXPECT_EQ(store->load("b")->follows, (SharedVersion{"common", 1}));
  EXPECT_EQ(store->commit(*store->load("b")), 2);
  EXPECT_EQ(store->load("b")->follows, (SharedVersion{"common", 1}));
}

TEST(TaskStore, RefusesToRollOneFollowerBackAlone) {
  const TemporaryFolder folder;
  const auto store = open_store(folder);
  const Numbers first = sample_shared(1), second = sample_shared(2);
  store->commit(sample_task("a", 1), &first, "common");
  store->commit(sample_task("a", 2), &second, "common");
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { store->rollback("a", 1); }), HasSubstr("'common'"));
  store->remove("a");
  EXPECT_EQ(store->rollback("a", 2), 3);
  EXPECT_TRUE(store->load("a"));
}

TEST(TaskStore, TakesTasksAlongWhenASharedStateGoesBack) {
  const TemporaryFolder folder;
  const auto store = open_store(folder);
  const Numbers one = sample_shared(1), two = sample_shared(2), three = sample_shared(3);
  store->commit(sample_task("a", 1), &one, "common");
  store->commit(sample_task("alone"));
  store->commit(sample_task("b", 2), &two, "common");
  store->commit(sample_task("a", 3), &three, "common");
  EXPECT_EQ(store->rollback_shared("common", 1), 4);
  EXPECT_EQ(names_of(store->list()), (std::vector<std::string>{"a", "alone"}));
  EXPECT_EQ(shared_value(*store->load("a")), 1);
  EXPECT_TRUE(equal(store->load("a")->numbers.only(Scope::kTask), sample_task("a", 1).numbers));
  EXPECT_EQ(store->load("alone")->version, 1);
  // And forth again: version 3 had both tasks.
  EXPECT_EQ(store->rollback_shared("common", 3), 5);
  EXPECT_EQ(names_of(store->list()), (std::vector<std::string>{"a", "alone", "b"}));
  EXPECT_EQ(shared_value(*store->load("b")), 3);
  EXPECT_TRUE(equal(store->load("a")->numbers.only(Scope::kTask), sample_task("a", 3).numbers));
  error_of(Code::kNotFound, [&] { store->rollback_shared("common", 6); });
  error_of(Code::kNotFound, [&] { store->rollback_shared("common", 0); });
}

TEST(TaskStore, KeepsRemovedTasksHiddenWhenASharedStateGoesBackAndForth) {
  const TemporaryFolder folder;
  const auto store = open_store(folder);
  const Numbers one = sample_shared(1), two = sample_shared(2);
  store->commit(sample_task("old", 1), &one, "common");
  store->commit(sample_task("young", 2), &two, "common");
  store->commit(sample_task("kept", 3), nullptr, "common");
  store->remove("old");
  store->remove("young");
  EXPECT_EQ(store->rollback_shared("common", 1), 3);
  EXPECT_TRUE(store->list().empty());
  EXPECT_EQ(store->rollback_shared("common", 2), 4);
  EXPECT_EQ(names_of(store->list()), (std::vector<std::string>{"kept"}));
  EXPECT_EQ(store->rollback("old", 3), 4);
  EXPECT_EQ(shared_value(*store->load("old")), 2);
  EXPECT_TRUE(equal(store->load("old")->numbers.only(Scope::kTask), sample_task("old", 1).numbers));
}

TEST(TaskStore, ErasesASharedStateWithItsLastFollower) {
  const TemporaryFolder folder;
  const auto store = open_store(folder);
  const Numbers large = sample_shared(1, kOverOneMiB);
  store->commit(sample_task("a"), &large, "common");
  store->commit(sample_task("b"), nullptr, "common");
  EXPECT_EQ(blob_names(folder).size(), 1u);
  store->purge("a");
  EXPECT_TRUE(store->shared("common"));
  store->purge("b");
  EXPECT_FALSE(store->shared("common"));
  EXPECT_TRUE(blob_names(folder).empty());
}

TEST(TaskStore, ImportsATaskThatStandsAloneWithItsSharedNumbers) {
  const TemporaryFolder here, there, elsewhere;
  const auto store = open_store(here), target = open_store(there), other = open_store(elsewhere);
  const Numbers numbers = sample_shared(1), others = sample_shared(2);
  store->commit(sample_task("a"), &numbers, "common");
  store->commit(sample_task("b"), nullptr, "common");
  const TaskRecord a = decode_task(encode_task(*store->load("a")), "a"), b = *store->load("b");
  EXPECT_EQ(import_task(*target, a), 1);
  EXPECT_EQ(import_task(*target, b), 1);
  EXPECT_TRUE(equal(target->load("a")->numbers, store->load("a")->numbers));
  EXPECT_EQ(target->load("b")->follows, (SharedVersion{"common", 1}));
  other->commit(sample_task("c"), &others, "common");
  EXPECT_THAT(error_of(Code::kShapeMismatch, [&] { import_task(*other, a); }), HasSubstr("'common'"));
  EXPECT_EQ(import_task(*other, sample_task("alone")), 1);
}

// ---- large tensors ----

TEST(TaskStore, KeepsLargeTensorsInFilesNamedByTheirContent) {
  const TemporaryFolder folder;
  const auto store = open_store(folder);
  TaskRecord task = sample_task("pets");
  State& state = task.numbers.at("recast", Scope::kTask);
  state.set("matrix", at::arange(600 * 1000, at::kFloat).reshape({600, 1000}).t());
  state.set("halves", at::arange(600'000, at::kFloat).to(at::kBFloat16));
  state.set("integers", at::arange(-70'000, 70'000, at::kLong));
  state.set("flags", at::arange(1'100'000).remainder(2).to(at::kBool));
  state.set("small", at::ones({1 << 18}));
  store->commit(task);
  EXPECT_EQ(blob_names(folder).size(), 4u);
  for (const std::string& name : blob_names(folder)) EXPECT_EQ(sha256_hex_of_file(folder / "blobs" / name), name);
  EXPECT_TRUE(same_bits(store->load("pets")->numbers.at("recast", Scope::kTask), state));
  store->commit(task);
  EXPECT_EQ(blob_names(folder).size(), 4u);
  EXPECT_EQ(store->list()[0].state_bytes, store->log("pets")[0].state_bytes);
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

TEST(TaskStore, ReadsAnAbsentStoreAsEmptyAndMakesNothing) {
  const TemporaryFolder folder;
  const auto store = open_store(folder, true);
  EXPECT_TRUE(store->list(true).empty());
  EXPECT_FALSE(store->load("pets"));
  EXPECT_FALSE(store->shared("common"));
  EXPECT_THAT(error_of(Code::kUnavailable, [&] { store->commit(sample_task("pets")); }), HasSubstr("reading only"));
  EXPECT_EQ(folder.entries(), 0u);
}

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

TEST(TaskStore, TakesCallsFromManyThreads) {
  const TemporaryFolder folder;
  const auto store = open_store(folder);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&store, t] {
      for (int i = 0; i < 5; ++i) {
        store->commit(sample_task("pets", t));
        store->load("pets");
        store->list();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(store->log("pets").size(), 20u);
}

}  // namespace
}  // namespace recast
