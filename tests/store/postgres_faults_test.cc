// A store in PostgreSQL whose connections are lost at any step, whose servers restart in the middle of a commit, and
// whose listener loses what it listens to. RECAST_FAULTS=full runs the long forms.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <random>
#include <thread>

#include "cutting_proxy.h"
#include "expected_store.h"
#include "format/expect_error.h"
#include "postgres_fixture.h"

namespace recast {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using Side = CuttingProxy::Side;
using Cut = CuttingProxy::Cut;

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

}  // namespace
}  // namespace recast
