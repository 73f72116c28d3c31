// What a store in PostgreSQL promises beyond every store: connections that are lost at any step, others who write at
// the same time, servers that restart in the middle of a commit, and what is shown of the URL. RECAST_FAULTS=full runs
// the long forms.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <future>
#include <random>
#include <thread>

#include "cutting_proxy.h"
#include "expected_store.h"
#include "format/expect_error.h"
#include "recast/base/log.h"
#include "store_place.h"

namespace recast {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using Side = CuttingProxy::Side;
using Cut = CuttingProxy::Cut;

/// Short enough for a test to wait for.
PostgresTimes quick() {
  PostgresTimes times;
  times.connect = std::chrono::seconds(2);
  times.recovery = milliseconds(600);
  return times;
}

class PostgresStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    RECAST_NEED_POSTGRES();
    place_.emplace(StoreKind::kPostgres);
  }
  const StorePlace& place() const { return *place_; }

  std::optional<StorePlace> place_;
};

std::unique_ptr<TaskStore> open_url(const std::string& url, bool read_only = false, const PostgresTimes& times = {},
                                    Verify verify = Verify::kWhole) {
  return open_postgres_store(url, fingerprint_of("base"), read_only, verify, times);
}

/// Another program's connection, which may stay in the middle of a transaction.
class Foreigner {
 public:
  Foreigner(const std::string& url, const std::string& name)
      : connection_(PQconnectdb((url + "&application_name=" + name).c_str()), PQfinish) {}
  void execute(const char* statements) const {
    const std::unique_ptr<PGresult, void (*)(PGresult*)> done(PQexec(connection_.get(), statements), PQclear);
    ASSERT_EQ(PQresultStatus(done.get()), PGRES_COMMAND_OK) << PQerrorMessage(connection_.get());
  }

 private:
  const std::unique_ptr<PGconn, void (*)(PGconn*)> connection_;
};

// ---- many backbones ----

TEST_F(PostgresStoreTest, KeepsTheTasksOfBackbonesApart) {
  const auto base = place().open(), other = place().open(false, "other");
  base->commit(numbered_task("pets", 1, true));
  base->tag("pets", 1, "best");
  TaskRecord theirs = sample_task("pets", 2, "other");
  theirs.numbers.at("recast", Scope::kTask)
      .set("w", numbered_task("pets", 1, true).numbers.at("recast", Scope::kTask).tensor("w"));
  other->commit(theirs);
  other->commit(sample_task("PETSHOP", 3, "other"));
  EXPECT_THAT(names_of(base->list()), ElementsAre("pets"));
  EXPECT_THAT(names_of(other->list()), ElementsAre("PETSHOP", "pets"));
  EXPECT_TRUE(equal(base->load("pets")->numbers, numbered_task("pets", 1, true).numbers));
  EXPECT_FALSE(other->tagged("pets", "best"));
  EXPECT_FALSE(base->load("PETSHOP"));
  EXPECT_FALSE(base->resolve("PETSHOP"));
  EXPECT_THAT(error_of(Code::kShapeMismatch, [&] { base->log("PETSHOP"); }),
              AllOf(HasSubstr(fingerprint_of("base")), HasSubstr(fingerprint_of("other"))));
  base->purge("pets");
  EXPECT_TRUE(equal(other->load("pets")->numbers, theirs.numbers)) << "an equal tensor of the other's";
}

TEST_F(PostgresStoreTest, GivesTheDigestsOfAStoreInAFile) {
  const StorePlace file(StoreKind::kSqlite);
  const Numbers shared = sample_shared(1);
  for (const StorePlace* place : {&file, &this->place()}) {
    const auto store = place->open();
    store->commit(numbered_task("pets", 1, true));
    store->commit(sample_task("cars", 2), &shared, "common");
  }
  for (const char* name : {"pets", "cars"})
    EXPECT_EQ(place().open(true)->resolve(name)->digest, file.open(true)->resolve(name)->digest);
}

// ---- damage ----

TEST_F(PostgresStoreTest, FindsRowsAndBytesThatChanged) {
  const Numbers shared = sample_shared(1);
  const auto store = place().open();
  store->commit(numbered_task("pets", 1, true));
  store->commit(sample_task("cars", 2), &shared, "common");
  const auto load = [&](const char* name) { return [&store, name] { store->load(name); }; };
  const std::vector<std::pair<std::string, std::function<void()>>> damages = {
      {"tasks SET removed_utc = 'x' WHERE name = 'pets'", load("pets")},
      {"versions SET metrics = '{}' WHERE task = 'pets'", load("pets")},
      {"shared_versions SET parent = 7", load("cars")},
      {"blobs SET shape = '[262145,1]'", load("pets")},
      {"states SET sha256 = repeat('0', 64)", load("pets")},
      {"states SET file = set_byte(file, 100, get_byte(file, 100) # 1)", load("pets")},
      {"contents SET bytes = set_byte(bytes, 5, get_byte(bytes, 5) # 1)", load("pets")},
      {"contents SET bytes = substr(bytes, 2)", load("pets")}};
  for (const auto& [damage, read] : damages) {
    const std::string table = "recast." + damage.substr(0, damage.find(' '));
    place().sql("CREATE TABLE kept AS SELECT * FROM " + table);
    place().sql("UPDATE recast." + damage);
    EXPECT_THAT(error_of(Code::kDataCorruption, read), HasSubstr("restore")) << damage;
    place().sql("SET session_replication_role = replica; DELETE FROM " + table + "; INSERT INTO " + table +
                " SELECT * FROM kept; DROP TABLE kept");
    EXPECT_NO_THROW(read()) << damage;
  }
}

TEST_F(PostgresStoreTest, StoresAContentThatChangedOnceMore) {
  const TaskRecord task = numbered_task("pets", 1, true);
  const auto store = place().open();
  store->commit(task);
  for (const char* damage : {"bytes = set_byte(bytes, 5, get_byte(bytes, 5) # 1)", "bytes = substr(bytes, 2)"}) {
    place().sql(fmt::format("UPDATE recast.contents SET {}", damage));
    store->commit(task);
    EXPECT_TRUE(equal(store->load("pets")->numbers, task.numbers)) << damage;
  }
}

TEST_F(PostgresStoreTest, NamesNoVersionThatWasLost) {
  const auto store = place().open();
  for (int i = 1; i <= 3; ++i) store->commit(sample_task("pets", i));
  place().sql("DELETE FROM recast.versions WHERE version = 2");
  EXPECT_THAT(error_of(Code::kDataCorruption, [&] { store->rollback("pets", 2); }), HasSubstr("missing"));
  EXPECT_THAT(error_of(Code::kDataCorruption, [&] { store->tag("pets", 2, "best"); }), HasSubstr("missing"));
}

TEST_F(PostgresStoreTest, ListsNoVersionThatWasChangedOrLost) {
  const auto store = place().open();
  store->commit(sample_task("pets"));
  const auto list = [&] { store->names_after("", 10); };
  place().sql("UPDATE recast.versions SET metrics = '{}'");
  EXPECT_THAT(error_of(Code::kDataCorruption, list), HasSubstr("seal"));
  place().sql("DELETE FROM recast.versions");
  EXPECT_THAT(error_of(Code::kDataCorruption, list), HasSubstr("a task without versions"));
}

TEST_F(PostgresStoreTest, RefusesANewerSchema) {
  const auto before = place().open();
  before->commit(sample_task("pets"));
  place().sql("INSERT INTO recast.migrations VALUES (99, '')");
  for (const bool read_only : {false, true})
    EXPECT_THAT(error_of(Code::kUnsupported, [&] { place().open(read_only); }), HasSubstr("99"));
  EXPECT_THAT(error_of(Code::kUnavailable, [&] { before->remove("pets"); }), HasSubstr("schema 99"));
}

TEST_F(PostgresStoreTest, SaysThatTablesAreNotItsOwn) {
  place().open()->commit(sample_task("pets"));
  const auto store = place().open(true);
  place().sql("ALTER TABLE recast.versions RENAME COLUMN plugs TO plugins");
  EXPECT_THAT(error_of(Code::kDataCorruption, [&] { store->load("pets"); }), HasSubstr("plugs"));
}

TEST_F(PostgresStoreTest, NeedsNoMoreRightsThanTheDocumentSays) {
  place().open()->commit(numbered_task("pets", 1, true));
  for (const char* role : {"reader", "learner"}) {
    place().sql(
        fmt::format("CREATE ROLE {0} LOGIN; GRANT USAGE ON SCHEMA recast TO {0}; GRANT SELECT ON ALL TABLES IN "
                    "SCHEMA recast TO {0}",
                    role));
  }
  place().sql(
      "GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA recast TO learner; GRANT USAGE ON ALL SEQUENCES IN "
      "SCHEMA recast TO learner");
  const auto as = [&](const std::string& role) {
    std::string url = place().url();
    return url.replace(url.find("recast@"), 6, role);
  };
  const auto reader = open_url(as("reader"), true);
  EXPECT_TRUE(reader->load("pets"));
  const std::int64_t before = reader->changes();
  const auto learner = open_url(as("learner"));
  EXPECT_EQ(learner->commit(numbered_task("pets", 2, true)), 2);
  EXPECT_TRUE(changes_from(*reader, before, StoreKind::kPostgres));
  learner->purge("pets");
  EXPECT_THAT(error_of(Code::kUnavailable, [&] { open_url(as("reader"))->commit(sample_task("pets")); }),
              HasSubstr("permission denied"));
  for (const char* role : {"reader", "learner"}) place().sql(fmt::format("DROP OWNED BY {0}; DROP ROLE {0}", role));
}

// ---- several writers ----

TEST_F(PostgresStoreTest, ManyThatOpenItFirstMakeItsTablesOnce) {
  std::vector<std::future<std::int64_t>> opened;
  for (int i = 0; i < 8; ++i) {
    opened.push_back(std::async(std::launch::async, [&] { return place().open()->commit(sample_task("pets")); }));
  }
  for (auto& each : opened) EXPECT_NO_THROW(each.get());
  EXPECT_EQ(place().open(true)->log("pets").size(), 8u);
  EXPECT_EQ(place().sql("SELECT count(*) FROM recast.migrations"), "1");
}

/// P5 of the reliability promises.
TEST_F(PostgresStoreTest, TwoWritersLoseNothingAndNumberNothingTwice) {
  const int races = in_full() ? 1000 : 100;
  std::barrier gate(2);
  const auto name_of = [](int race) { return fmt::format("task{}", race % 7); };
  std::array<std::vector<std::int64_t>, 2> versions;
  const auto write = [&](std::size_t who) {
    try {
      const auto store = place().open();
      for (int race = 0; race < races; ++race) {
        gate.arrive_and_wait();
        versions[who].push_back(store->commit(sample_task(name_of(race), 2 * race + 1 + static_cast<int>(who))));
      }
    } catch (const std::exception& error) {
      ADD_FAILURE() << error.what();
      gate.arrive_and_drop();
    }
  };
  std::thread other([&] { write(1); });
  write(0);
  other.join();
  ASSERT_FALSE(HasFailure());
  const auto store = place().open(true);
  std::map<std::string, std::int64_t> last;
  for (std::size_t race = 0; race < versions[0].size(); ++race) {
    const std::string name = name_of(static_cast<int>(race));
    const std::int64_t a = versions[0][race], b = versions[1][race];
    EXPECT_EQ(std::min(a, b), last[name] + 1) << "race " << race;
    EXPECT_EQ(std::max(a, b), last[name] + 2) << "race " << race;
    last[name] += 2;
    for (const auto& [version, who] : {std::pair{a, 0}, {b, 1}}) {
      const auto task = store->load(name, version);
      ASSERT_TRUE(task);
      EXPECT_EQ(task->numbers.at("head", Scope::kTask).integer("seen"), 2 * static_cast<int>(race) + 1 + who);
    }
  }
}

TEST_F(PostgresStoreTest, AWriterThatWaitsTooLongSaysWhoWrites) {
  place().open()->commit(sample_task("pets"));
  PostgresTimes times;
  times.lock = milliseconds(300);
  const auto store = open_url(place().url(), false, times);
  const Foreigner other(place().url(), "other%20one"), slow(place().url(), "slow%20one");
  other.execute("BEGIN; UPDATE recast.migrations SET number = number");
  slow.execute("BEGIN; UPDATE recast.backbones SET changes = changes");
  EXPECT_THAT(error_of(Code::kUnavailable, [&] { store->commit(sample_task("pets")); }),
              AllOf(HasSubstr("another process is writing"), HasSubstr("(slow one)")));
  EXPECT_TRUE(store->load("pets")) << "readers are not held up";
  slow.execute("ROLLBACK");
  EXPECT_EQ(store->commit(sample_task("pets")), 2) << "the same store goes on";
}

// ---- lost connections ----

/// A store behind a proxy, and another one beside it that tells what is there.
class LostConnection : public PostgresStoreTest {
 protected:
  void SetUp() override {
    PostgresStoreTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    proxy_.emplace(PostgresServer::shared().socket());
    place().open();  // makes the tables
    store_ = open_url(proxied());
    reader_ = place().open(true);
  }
  std::string proxied() const { return PostgresServer::shared().url(place().database(), proxy_->folder()); }

  void do_and_expect(const Operation& operation) {
    perform(*store_, operation);
    expected_.apply(operation);
  }
  /// Every `stride`-th message of `work`, both sides, before and after; `work` may be done any number of times.
  void cut_everywhere(const std::function<void()>& work, const std::function<void(const std::string&)>& check,
                      int stride = 1) {
    proxy_->cut_at(Side::kClient, Cut::kBefore, 0);
    work();
    int cuts = 0;
    for (const Side side : {Side::kClient, Side::kServer}) {
      for (const Cut cut : {Cut::kBefore, Cut::kAfter}) {
        bool more = true;
        for (int n = 1; more; n += stride) {
          proxy_->cut_at(side, cut, n);
          const std::string where =
              fmt::format("message {} of the {}, {}", n, side == Side::kClient ? "client" : "server",
                          cut == Cut::kBefore ? "lost" : "the last");
          ASSERT_NO_THROW(work()) << where;
          more = !proxy_->waiting();
          cuts += more;
          proxy_->cut_at(side, cut, 0);
          check(where);
          if (HasFatalFailure()) return;
        }
      }
    }
    fmt::print("{} cuts\n", cuts);
    EXPECT_GT(cuts, 50 / stride);
  }

  std::optional<CuttingProxy> proxy_;
  std::unique_ptr<TaskStore> store_, reader_;
  ExpectedStore expected_;
};

TEST_F(LostConnection, AtAnyStepOfACommitIsSurvivedAndItIsDoneOnce) {
  std::int64_t seed = 0;
  cut_everywhere(
      [&] {
        ++seed;
        do_and_expect({.kind = Operation::kCommit, .name = "a", .shared = "common", .seed = seed, .with_shared = true});
      },
      [&](const std::string& where) {
        ASSERT_EQ(reader_->log("a").size(), expected_.tasks.at("a").versions.size()) << where;
        if (seed % 6 != 0) return;
        ASSERT_EQ(difference(expected_, *reader_), "") << where;
        do_and_expect({.kind = Operation::kPurge, .name = "a"});
      },
      in_full() ? 1 : 3);
}

TEST_F(LostConnection, AtAnyStepOfAnyChangeIsSurvived) {
  const auto work = [&] {
    for (const Operation& operation : std::vector<Operation>{
             {.kind = Operation::kCommit, .name = "a", .seed = 1, .large = true},
             {.kind = Operation::kCommit, .name = "b", .shared = "common", .seed = 2, .with_shared = true},
             {.kind = Operation::kTag, .name = "a", .tag = "best", .version = 1},
             {.kind = Operation::kRollback, .name = "a", .version = 1},
             {.kind = Operation::kRollbackShared, .shared = "common", .version = 1},
             {.kind = Operation::kRemove, .name = "b"},
             {.kind = Operation::kUntag, .name = "a", .tag = "best"},
             {.kind = Operation::kPurge, .name = "a"},
             {.kind = Operation::kCollect}})
      do_and_expect(operation);
  };
  const auto check = [&](const std::string& where) {
    ASSERT_EQ(difference(expected_, *reader_), "") << where;
    do_and_expect({.kind = Operation::kPurge, .name = "b"});
  };
  cut_everywhere(
      [&] {
        if (expected_.tasks.contains("b")) do_and_expect({.kind = Operation::kPurge, .name = "b"});
        work();
      },
      check, in_full() ? 1 : 83);
}

TEST_F(LostConnection, AtAnyStepOfReadingIsSurvived) {
  do_and_expect({.kind = Operation::kCommit, .name = "a", .seed = 1, .large = true});
  do_and_expect({.kind = Operation::kCommit, .name = "b", .shared = "common", .seed = 2, .with_shared = true});
  do_and_expect({.kind = Operation::kTag, .name = "a", .tag = "best", .version = 1});
  cut_everywhere(
      [&] {
        ASSERT_EQ(difference(expected_, *store_), "");
        ASSERT_TRUE(store_->resolve("a", 0, "best"));
        ASSERT_EQ(store_->names_after("", 10).size(), 2u);
      },
      [](const std::string&) {}, in_full() ? 1 : 23);
}

TEST_F(LostConnection, BeforeTheCommitChangesNothingAndSaysSo) {
  store_ = open_url(proxied(), false, quick());
  store_->commit(sample_task("a"));
  proxy_->shut();
  EXPECT_THAT(error_of(Code::kUnavailable, [&] { store_->commit(sample_task("a")); }),
              AllOf(HasSubstr("nothing was changed"), Not(HasSubstr("unknown"))));
  EXPECT_EQ(reader_->log("a").size(), 1u);
  proxy_->allow();
  EXPECT_EQ(store_->commit(sample_task("a")), 2) << "the same store comes back";
}

TEST_F(LostConnection, InTheCommitThatIsNotResolvedGivesTheIdToLookFor) {
  store_ = open_url(proxied(), false, quick());
  store_->commit(sample_task("a"));
  for (const Cut cut : {Cut::kBefore, Cut::kAfter}) {
    const std::size_t before = reader_->log("a").size();
    proxy_->cut_at_commit(cut);
    const std::string message = error_of(Code::kUnavailable, [&] { store_->commit(sample_task("a")); });
    proxy_->allow();
    EXPECT_THAT(message, HasSubstr("unknown: check id "));
    const std::string id = message.substr(message.find("check id ") + 9, 32);
    const bool done = cut == Cut::kAfter;  // the server had the COMMIT
    const auto rows = [&] { return place().sql("SELECT count(*) FROM recast.commits WHERE id = '" + id + "'"); };
    if (done) {
      EXPECT_TRUE(becomes_true([&] { return rows() == "1"; })) << "the server ends what it had begun";
    } else {
      EXPECT_EQ(rows(), "0");
    }
    EXPECT_EQ(reader_->log("a").size(), before + (done ? 1 : 0));
    if (done) {
      EXPECT_EQ(place().sql("SELECT what FROM recast.commits WHERE id = '" + id + "'"), "commit a");
    }
  }
}

TEST_F(LostConnection, InACommitWithARequestIsMendedByRepeatingIt) {
  store_ = open_url(proxied(), false, quick());
  const auto commit = [&](const std::string& task, const std::string& request) {
    return store_->commit(sample_task(task), nullptr, {}, request);
  };
  EXPECT_EQ(commit("a", "first"), 1);
  for (const Cut cut : {Cut::kBefore, Cut::kAfter}) {
    const std::int64_t next = cut == Cut::kBefore ? 2 : 3;
    proxy_->cut_at_commit(cut);
    EXPECT_THAT(error_of(Code::kUnavailable, [&] { commit("a", fmt::format("request {}", next)); }),
                HasSubstr("unknown"));
    proxy_->allow();
    EXPECT_EQ(commit("a", fmt::format("request {}", next)), next);
    EXPECT_EQ(reader_->log("a").size(), static_cast<std::size_t>(next));
  }
  EXPECT_EQ(commit("a", "first"), 1) << "however long ago";
  EXPECT_EQ(commit("b", "first"), 1);
  EXPECT_EQ(commit("a", ""), 4);
  EXPECT_EQ(commit("a", ""), 5);
  EXPECT_EQ(reader_->log("a").size(), 5u);
}

TEST_F(LostConnection, ByAServerThatNeverAnswersEndsInTime) {
  PostgresTimes times = quick();
  times.statement = std::chrono::seconds(1);
  const auto store = open_url(proxied(), true, times);
  const auto start = Clock::now();
  proxy_->swallow_transactions();
  EXPECT_THAT(error_of(Code::kUnavailable, [&] { store->load("a"); }), HasSubstr("no answer within 3 s"));
  proxy_->keep_silent();
  EXPECT_THAT(error_of(Code::kUnavailable, [&] { open_url(proxied(), true, times); }), HasSubstr("timeout"));
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(30));
  proxy_->allow();
}

/// P5: the server ends in the middle of a COMMIT, as in a crash, and comes back.
TEST_F(PostgresStoreTest, FailoverInTheMiddleOfACommitIsResolved) {
  PostgresServer server;
  CuttingProxy proxy(server.socket());
  const std::string database = server.new_database();
  PostgresTimes times;
  times.recovery = std::chrono::minutes(2);  // a server repairs itself for as long as the machine needs
  const auto store = open_url(server.url(database, proxy.folder()), false, times);
  std::mt19937 random(3);
  std::atomic<bool> down = false;
  const int rounds = in_full() ? 100 : 5;
  for (int round = 1; round <= rounds; ++round) {
    const auto delay = std::chrono::microseconds(random() % 3000);
    proxy.on_commit([&] {
      proxy.on_commit({});
      std::this_thread::sleep_for(delay);
      server.stop();
      down = true;
    });
    auto version = std::async(std::launch::async, [&] { return store->commit(sample_task("pets", round)); });
    while (!down && version.wait_for(milliseconds(1)) != std::future_status::ready) {
    }
    if (!down) FAIL() << "ended before its COMMIT, with version " << version.get();
    server.start();  // by this thread: the server ends with the one that began it
    down = false;
    ASSERT_EQ(version.get(), round);
  }
  const auto direct = open_url(server.url(database), true);
  ASSERT_EQ(direct->log("pets").size(), static_cast<std::size_t>(rounds));
  for (int round = 1; round <= rounds; ++round)
    EXPECT_TRUE(equal(direct->load("pets", round)->numbers, sample_task("pets", round).numbers));
}

// ---- following changes ----

TEST_F(LostConnection, NewsOfACommitTravelInLessThanASecond) {
  const auto served = place().serve();
  served->changes();
  std::vector<double> times;
  for (int i = 0; i < 50; ++i) {
    std::this_thread::sleep_for(milliseconds(5));
    const std::int64_t before = served->changes();
    store_->commit(sample_task("pets", i + 1));
    const auto start = Clock::now();
    ASSERT_TRUE(changes_from(*served, before, StoreKind::kPostgres));
    times.push_back(std::chrono::duration<double, std::milli>(Clock::now() - start).count());
  }
  std::ranges::sort(times);
  fmt::print("news of 50 commits: median {:.1f} ms, longest {:.1f} ms\n", times[25], times.back());
  EXPECT_LT(times[25], 1000);
}

/// Nothing: the database is known to be out of reach.
std::optional<std::int64_t> changes_of(const TaskStore& store) {
  try {
    return store.changes();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kUnavailable);
    return {};
  }
}

/// A served store behind the proxy, whose listener is gone.
class LostListener : public LostConnection {
 protected:
  void SetUp() override {
    LostConnection::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    writer_ = place().open();
    writer_->commit(sample_task("pets", 1));
    PostgresTimes times = quick();
    times.connect = std::chrono::seconds(30);
    served_ = open_url(proxied(), true, times, Verify::kAsRead);
    before_ = served_->changes();
    proxy_->shut();
    ASSERT_TRUE(becomes_true([&] { return !changes_of(*served_); }));
  }
  bool tells_of_changes_once_it_is_back() {
    proxy_->allow();
    return becomes_true([&] {
      const auto now = changes_of(*served_);
      return now && now != before_;
    });
  }

  std::unique_ptr<TaskStore> writer_, served_;
  std::int64_t before_ = 0;
};

TEST_F(LostListener, ComesBackByItselfAndTellsWhatWasMissed) {
  writer_->commit(sample_task("pets", 2));
  EXPECT_THAT(error_of(Code::kUnavailable, [&] { served_->resolve("pets"); }), HasSubstr("out of reach"));
  EXPECT_TRUE(tells_of_changes_once_it_is_back());
  EXPECT_EQ(served_->resolve("pets")->version, 2);
}

/// A copy that lacked the last commit has taken the database's place, and has come to the same count.
TEST_F(LostListener, MayComeBackToAnotherHistoryOfEqualLength) {
  const std::string count = place().sql("SELECT changes FROM recast.backbones");
  writer_->commit(sample_task("pets", 2));
  place().sql("UPDATE recast.backbones SET changes = " + count);
  EXPECT_TRUE(tells_of_changes_once_it_is_back());
}

TEST_F(LostListener, KeepsNobodyWaitingForWhatIsKnownToBeAway) {
  proxy_->keep_silent();
  const auto start = Clock::now();
  EXPECT_THAT(error_of(Code::kUnavailable, [&] { served_->resolve("pets"); }), HasSubstr("out of reach"));
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(15)) << "half of what one waits for a connection";
  proxy_->allow();  // the listener waits too
}

/// A database and a copy of it that stands still, in one URL; the door before the first one is open.
class TwoHosts : public ::testing::Test {
 protected:
  void SetUp() override {
    RECAST_NEED_POSTGRES();
    first_.emplace();
    database_ = first_->new_database();
    writer_ = open_url(first_->url(database_));
    writer_->commit(sample_task("pets", 1));
    copy_.emplace(PostgresServer::CopyOf{*first_});
    hold_copy();
    door_.emplace(first_->socket());
  }
  void hold_copy() const {
    copy_->sql("postgres", "SELECT pg_wal_replay_pause()");
    const auto state = [&] { return copy_->sql("postgres", "SELECT pg_get_wal_replay_pause_state()"); };
    ASSERT_TRUE(becomes_true([&] { return state() == "paused"; }));
  }
  /// A store that has met the copy alone so far.
  std::unique_ptr<TaskStore> serve_from_copy() {
    door_->hide();
    auto served = open_url(first_->url(database_, door_->folder() + "," + copy_->socket_folder()), true, {},
                           Verify::kAsRead);
    door_->show();
    return served;
  }
  void commit_and_tell(const TaskStore& served) {
    const std::int64_t before = served.changes();
    writer_->commit(sample_task("pets", 2));
    ASSERT_TRUE(changes_from(served, before, StoreKind::kPostgres));
  }

  std::optional<PostgresServer> first_, copy_;
  std::optional<CuttingProxy> door_;
  std::string database_;
  std::unique_ptr<TaskStore> writer_;
};

TEST_F(TwoHosts, ReadersGoWhereTheListenerWent) {
  copy_->sql("postgres", "SELECT pg_promote()");  // no copy any more, but another database
  const auto served = serve_from_copy();
  commit_and_tell(*served);
  EXPECT_EQ(served->resolve("pets")->version, 2);
}

TEST_F(TwoHosts, ACopyIsReadOnlyWithWhatTheListenerKnows) {
  const auto served = serve_from_copy();
  served->changes();  // listens to the first one
  door_->hide();
  commit_and_tell(*served);
  EXPECT_THAT(error_of(Code::kUnavailable, [&] { served->resolve("pets"); }), HasSubstr("copy"));
  copy_->sql("postgres", "SELECT pg_wal_replay_resume()");
  EXPECT_TRUE(becomes_true([&] { return copy_->sql(database_, "SELECT max(version) FROM recast.versions") == "2"; }));
  EXPECT_EQ(served->resolve("pets")->version, 2);
  hold_copy();
  commit_and_tell(*served);
  door_->show();
  EXPECT_EQ(served->resolve("pets")->version, 3) << "from the first one";
}

TEST_F(PostgresStoreTest, SaysThatNoThreadIsLeftToListenAndBlocksNoSignals) {
  const auto store = place().open(true);
  pthread_attr_t usual, vast;
  ::pthread_getattr_default_np(&usual);
  ::pthread_attr_init(&vast);
  ::pthread_attr_setstacksize(&vast, std::size_t{1} << 47);  // more than there are addresses
  ::pthread_setattr_default_np(&vast);
  const std::string message = error_of(Code::kExhausted, [&] { store->changes(); });
  ::pthread_setattr_default_np(&usual);
  EXPECT_THAT(message, HasSubstr("no thread is left"));
  sigset_t blocked;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
  EXPECT_EQ(sigismember(&blocked, SIGTERM), 0);
  EXPECT_NO_THROW(store->changes());
}

// ---- URLs ----

constexpr const char* kSecret = "hunter2%21";  // "hunter2!"

TEST(StoreUrl, IsShownWithoutItsPassword) {
  const auto shown = [](const std::string& url) { return shown_store("model", url); };
  EXPECT_EQ(shown(""), "model/tasks.db");
  EXPECT_EQ(shown(fmt::format("postgresql://me:{}@db.example:5433/fleet?sslmode=require", kSecret)),
            "postgresql://me@db.example:5433/fleet");
  EXPECT_EQ(shown(fmt::format("postgresql://me@a,b:6000/fleet?password={}", kSecret)),
            "postgresql://me@a,b:6000/fleet");
  EXPECT_EQ(shown("postgresql:///fleet?host=/run/sockets"), "postgresql:///fleet?host=/run/sockets");
}

TEST(StoreUrl, IsRefusedWithoutBeingShown) {
  for (const std::string url : {"hunter2", "mysql://me:hunter2@db/fleet", "postgresql://me:hunter2%@db/fleet",
                                "postgresql://me:hunter2@db/fleet?hunter2=1", "host=db password=hunter2"}) {
    EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { check_store_url(url); }),
                AllOf(HasSubstr("postgresql://"), Not(HasSubstr("hunter2"))));
  }
  for (const char* url : {"postgresql://me:hunter2@db/fleet", "postgresql://me@db/fleet?sslpassword=hunter2"}) {
    EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { check_store_argument(url); }),
                AllOf(HasSubstr("PGPASSWORD"), Not(HasSubstr("hunter2"))));
  }
  EXPECT_NO_THROW(check_store_argument("postgresql://me@db/fleet"));
  EXPECT_NO_THROW(check_store_argument(""));
}

TEST(StoreUrl, MasksAPasswordThatLooksLikeItsMask) {
  for (const char* stars : {"*", "**", "***"}) {
    const std::string url = fmt::format("postgresql://me:{0}@/x?host=/nowhere/{0}", stars);
    EXPECT_THAT(error_of(Code::kUnavailable, [&] { open_url(url, true); }), HasSubstr("/nowhere/***/.s.PGSQL"));
  }
}

TEST(StoreUrl, MasksThePasswordOfAKeyToo) {
  const std::string url = "postgresql://me:hunt@/x?host=/nowhere/hunter2&sslpassword=hunter2";
  EXPECT_THAT(error_of(Code::kUnavailable, [&] { open_url(url, true); }), HasSubstr("\"/nowhere/***/.s.PGSQL"));
}

TEST_F(PostgresStoreTest, NeverShowsThePasswordInErrorsOrTheLog) {
  std::string log;
  std::mutex mutex;
  set_log(LogLevel::kDebug, [&](const LogEvent& event) {
    const std::lock_guard lock(mutex);
    for (const LogField& field : event.fields)
      if (const auto* text = std::get_if<std::string_view>(&field.value)) log += *text;
  });
  const auto with_password = [](std::string url) {
    return url.replace(url.find('@'), 1, fmt::format(":{}@", kSecret));
  };
  // A setting that is what the password is, so that the server's own message has it.
  const std::string absent = with_password(place().url() + "&options=-cgeqo_seed%3Dhunter2%21");
  std::string messages = error_of(Code::kUnavailable, [&] { open_url(absent, true, quick()); });
  messages +=
      error_of(Code::kUnavailable, [&] { open_url(with_password("postgresql://me@127.0.0.1:1/x"), true, quick()); });
  const auto store = open_url(with_password(place().url()));
  store->commit(sample_task("pets"));
  store->changes();
  set_log(LogLevel::kDebug, {});
  EXPECT_THAT(messages, AllOf(HasSubstr("refused"), HasSubstr("geqo_seed"), Not(HasSubstr("hunter2!"))));
  EXPECT_THAT(log, AllOf(HasSubstr("postgresql://recast@"), Not(HasSubstr("hunter2"))));
}

}  // namespace
}  // namespace recast
