// What every kind of store promises, asked of each.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>
#include <thread>

#include "expected_store.h"
#include "format/expect_error.h"
#include "store_place.h"

namespace recast {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

double shared_value(const TaskRecord& task) {
  return task.numbers.at("recast", Scope::kShared).tensor("memory")[0].item<double>();
}

TEST_P(EveryStore, GivesBackWhatWasCommittedBitForBit) {
  TaskRecord task = sample_task("pets");
  task.numbers.at("recast", Scope::kTask) = awkward_numbers();
  EXPECT_EQ(place().open()->commit(task), 1);
  const auto back = place().open(true)->load("pets");
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

TEST_P(EveryStore, KeepsEveryVersion) {
  const auto store = place().open();
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

TEST_P(EveryStore, SumsUpItsTasks) {
  const auto store = place().open();
  store->commit(sample_task("b"));
  store->commit(sample_task("a"));
  store->commit(sample_task("b", 2));
  const auto tasks = store->list();
  ASSERT_EQ(names_of(tasks), (std::vector<std::string>{"a", "b"}));
  const TaskSummary& b = tasks[1];
  EXPECT_EQ(b.version, 2);
  EXPECT_EQ(b.versions, 2);
  store->tag("b", 2, "best");
  const auto some = store->list_of({"x", "b", "it's"});
  ASSERT_EQ(names_of(some), (std::vector<std::string>{"b"}));
  EXPECT_EQ(some[0].version, 2);
  EXPECT_EQ(some[0].versions, 2);
  EXPECT_EQ(some[0].tags, (std::vector<std::string>{"best"}));
  EXPECT_EQ(names_of(store->list_of({"b", "a"})), (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(store->list_of({}).empty());
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

TEST_P(EveryStore, HidesAndShowsTasks) {
  const auto store = place().open();
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

TEST_P(EveryStore, NamesTheNearestTask) {
  const auto store = place().open();
  store->commit(sample_task("flowers"));
  for (const auto& call :
       std::vector<std::function<void()>>{[&] { store->remove("flower"); }, [&] { store->purge("flower"); },
                                          [&] { store->log("flower"); }, [&] { store->rollback("flower", 1); }}) {
    EXPECT_THAT(error_of(Code::kNotFound, call), HasSubstr("did you mean 'flowers'?"));
  }
  EXPECT_THAT(error_of(Code::kNotFound, [&] { store->rollback("flowers", 2); }), HasSubstr("no version 2"));
}

TEST_P(EveryStore, RefusesTasksOfAnotherBackboneAndNamesBoth) {
  const auto both = AllOf(HasSubstr(fingerprint_of("base")), HasSubstr(fingerprint_of("other")));
  const auto foreign = sample_task("pets", 1, "other");
  EXPECT_THAT(error_of(Code::kShapeMismatch, [&] { place().open()->commit(foreign); }), both);
  EXPECT_THAT(error_of(Code::kShapeMismatch, [&] { import_task(*place().open(), foreign); }), both);
  EXPECT_TRUE(place().open()->list().empty());
  place().open()->commit(sample_task("pets"));
  const auto other = place().open(false, "other");
  EXPECT_THAT(error_of(Code::kShapeMismatch, [&] { other->rollback("pets", 1); }), both);
}

TEST_P(EveryStore, RefusesNamesThatDifferInCaseOnly) {
  const auto store = place().open();
  store->commit(sample_task("Pets"));
  EXPECT_THAT(error_of(Code::kAlreadyExists, [&] { store->commit(sample_task("pETS")); }), HasSubstr("'Pets'"));
  error_of(Code::kInvalidArgument, [&] { store->commit(sample_task("../pets")); });
  EXPECT_EQ(store->list(true).size(), 1u);
}

// ---- shared states ----

TEST_P(EveryStore, LetsTasksFollowTheNewestSharedState) {
  const auto store = place().open();
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

TEST_P(EveryStore, FollowsWithoutANewVersion) {
  const auto store = place().open();
  error_of(Code::kNotFound, [&] { store->commit(sample_task("b"), nullptr, "common"); });
  const Numbers numbers = sample_shared(1);
  store->commit(sample_task("a"), &numbers, "common");
  store->commit(sample_task("b"), nullptr, "common");
  EXPECT_EQ(store->load("b")->follows, (SharedVersion{"common", 1}));
  EXPECT_EQ(store->commit(*store->load("b")), 2);
  EXPECT_EQ(store->load("b")->follows, (SharedVersion{"common", 1}));
}

TEST_P(EveryStore, RefusesToRollOneFollowerBackAlone) {
  const auto store = place().open();
  const Numbers first = sample_shared(1), second = sample_shared(2);
  store->commit(sample_task("a", 1), &first, "common");
  store->commit(sample_task("a", 2), &second, "common");
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { store->rollback("a", 1); }), HasSubstr("'common'"));
  store->remove("a");
  EXPECT_EQ(store->rollback("a", 2), 3);
  EXPECT_TRUE(store->load("a"));
}

TEST_P(EveryStore, TakesTasksAlongWhenASharedStateGoesBack) {
  const auto store = place().open();
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

TEST_P(EveryStore, KeepsRemovedTasksHiddenWhenASharedStateGoesBackAndForth) {
  const auto store = place().open();
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

TEST_P(EveryStore, ErasesASharedStateWithItsLastFollower) {
  const auto store = place().open();
  const Numbers large = sample_shared(1, kOverOneMiB);
  store->commit(sample_task("a"), &large, "common");
  store->commit(sample_task("b"), nullptr, "common");
  EXPECT_EQ(place().blobs(), 1u);
  store->purge("a");
  EXPECT_TRUE(store->shared("common"));
  store->purge("b");
  EXPECT_FALSE(store->shared("common"));
  EXPECT_EQ(place().blobs(), 0u);
}

TEST_P(EveryStore, ImportsATaskThatStandsAloneWithItsSharedNumbers) {
  const StorePlace there(GetParam()), elsewhere(GetParam());
  const auto store = place().open(), target = there.open(), other = elsewhere.open();
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

TEST_P(EveryStore, KeepsEqualLargeTensorsOnceAndGivesThemBackBitForBit) {
  const auto store = place().open();
  TaskRecord task = sample_task("pets");
  State& state = task.numbers.at("recast", Scope::kTask);
  state.set("matrix", at::arange(600 * 1000, at::kFloat).reshape({600, 1000}).t());
  state.set("halves", at::arange(600'000, at::kFloat).to(at::kBFloat16));
  state.set("flags", at::arange(1'100'000).remainder(2).to(at::kBool));
  state.set("parts", at::arange(3'000'000, at::kLong));  // 24 MB: several parts where tensors are kept in parts
  state.set("small", at::ones({1 << 18}));
  store->commit(task);
  EXPECT_EQ(place().blobs(), 4u);
  EXPECT_TRUE(same_bits(store->load("pets")->numbers.at("recast", Scope::kTask), state));
  store->commit(task);
  EXPECT_EQ(place().blobs(), 4u);
  EXPECT_EQ(store->list()[0].file_bytes, store->log("pets")[0].file_bytes);
}

TEST_P(EveryStore, ErasesTasksWithTheirLargeTensors) {
  const auto store = place().open();
  store->commit(numbered_task("pets", 1, true));
  store->commit(numbered_task("cars", 2, true));
  ASSERT_EQ(place().blobs(), 2u);
  store->purge("pets");
  EXPECT_EQ(place().blobs(), 1u);
  EXPECT_FALSE(store->load("pets", 1));
  EXPECT_EQ(names_of(store->list(true)), (std::vector<std::string>{"cars"}));
  EXPECT_TRUE(store->load("cars"));
  EXPECT_EQ(store->commit(sample_task("PETS")), 1);
  EXPECT_EQ(store->collect_garbage(), 0);
}

TEST_P(EveryStore, RefusesLargeTensorsThatAreNotFinite) {
  TaskRecord task = sample_task("pets");
  task.numbers.at("recast", Scope::kTask).set("w", at::full({kOverOneMiB}, std::nan("")));
  error_of(Code::kDataCorruption, [&] { place().open()->commit(task); });
  EXPECT_EQ(place().blobs(), 0u);
}

// ---- opening ----

TEST_P(EveryStore, ReadsAnAbsentStoreAsEmptyAndMakesNothing) {
  const auto store = place().open(true);
  EXPECT_TRUE(store->list(true).empty());
  EXPECT_FALSE(store->load("pets"));
  EXPECT_FALSE(store->shared("common"));
  EXPECT_THAT(error_of(Code::kUnavailable, [&] { store->commit(sample_task("pets")); }), HasSubstr("reading only"));
  EXPECT_TRUE(place().untouched());
}

TEST_P(EveryStore, ChangesNothingWhereItWasOpenedForReading) {
  place().open()->commit(sample_task("pets"));
  const auto store = place().open(true);
  for (const auto& call : std::vector<std::function<void()>>{
           [&] { store->commit(sample_task("pets")); }, [&] { store->remove("pets"); }, [&] { store->purge("pets"); },
           [&] { store->tag("pets", 1, "x"); }, [&] { store->untag("pets", "x"); }, [&] { store->rollback("pets", 1); },
           [&] { store->rollback_shared("common", 1); }, [&] { store->collect_garbage(); }}) {
    EXPECT_THAT(error_of(Code::kUnavailable, call), HasSubstr("reading only"));
  }
  EXPECT_EQ(store->log("pets").size(), 1u);
  EXPECT_FALSE(store->log("pets")[0].removed);
}

TEST_P(EveryStore, TakesCallsFromManyThreads) {
  const auto store = place().open();
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

// ---- everything together ----

/// Operations of every kind, drawn; after each the store must hold what is expected, every number of every version.
TEST_P(EveryStore, HoldsWhatIsExpectedAfterManyOperations) {
  std::mt19937 random(7);
  ExpectedStore expected;
  const auto store = place().open(), reader = place().open(true);
  for (int i = 0; i < 120; ++i) {
    const Operation operation = next_operation(random, expected);
    perform(*store, operation);
    expected.apply(operation);
    if (i % 10 != 9) continue;
    ASSERT_EQ(difference(expected, *reader), "") << "operation " << i;
  }
}

RECAST_FOR_EVERY_STORE(EveryStore);

}  // namespace
}  // namespace recast
