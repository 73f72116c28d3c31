// What a store in PostgreSQL promises beyond every store: backbones beside each other, damage, others who write at the
// same time, and what is shown of the URL; postgres_faults_test.cc has lost connections. RECAST_FAULTS=full runs the
// long forms.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <barrier>
#include <chrono>
#include <functional>
#include <future>
#include <map>
#include <mutex>
#include <thread>

#include "expected_store.h"
#include "format/expect_error.h"
#include "postgres_fixture.h"
#include "recast/base/log.h"

namespace recast {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using std::chrono::milliseconds;

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
