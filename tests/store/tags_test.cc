#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>

#include "format/expect_error.h"
#include "store_place.h"

namespace recast {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class TagsTest : public EveryStore {
 protected:
  void SetUp() override {
    EveryStore::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    store_ = place().open();
    for (std::int64_t seed = 1; seed <= 3; ++seed) store_->commit(sample_task("pets", seed));
  }
  std::vector<std::string> tags_of(std::int64_t version) const {
    return store_->log("pets")[static_cast<std::size_t>(version - 1)].tags;
  }
  /// By a connection that knows nothing of seals.
  void update_tags(const std::string& assignment) const {
    if (GetParam() == StoreKind::kPostgres) {
      place().sql("UPDATE recast.tags SET " + assignment);
      return;
    }
    sqlite3* database = nullptr;
    ASSERT_EQ(sqlite3_open((place().folder() / "tasks.db").c_str(), &database), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(database, ("UPDATE tags SET " + assignment).c_str(), nullptr, nullptr, nullptr), SQLITE_OK)
        << sqlite3_errmsg(database);
    sqlite3_close(database);
  }
  std::unique_ptr<TaskStore> store_;
};

TEST_P(TagsTest, NameVersions) {
  EXPECT_EQ(store_->tag("pets", 1, "paper"), 1);
  EXPECT_EQ(store_->tag("pets", 0, "best"), 3);
  EXPECT_EQ(store_->tag("pets", 1, "first"), 1);
  EXPECT_EQ(store_->tagged("pets", "best"), 3);
  EXPECT_FALSE(store_->tagged("pets", "worst"));
  EXPECT_FALSE(store_->tagged("cars", "best"));
  EXPECT_THAT(tags_of(1), ElementsAre("first", "paper"));
  EXPECT_THAT(tags_of(2), ElementsAre());
  EXPECT_THAT(store_->list()[0].tags, ElementsAre("best"));
  const auto reader = place().open(true);
  EXPECT_EQ(reader->tagged("pets", "paper"), 1);
  error_of(Code::kUnavailable, [&] { reader->tag("pets", 1, "x"); });
  error_of(Code::kUnavailable, [&] { reader->untag("pets", "paper"); });
}

TEST_P(TagsTest, AreListedWithTheTaskAndTheVersionThatTheyName) {
  for (const char* name : {"cars", "zebras", "petshops"}) store_->commit(sample_task(name));
  for (std::int64_t seed = 4; seed <= 12; ++seed) store_->commit(sample_task("pets", seed));
  store_->tag("pets", 12, "last");
  store_->tag("pets", 12, "best");
  store_->tag("pets", 1, "first");
  store_->tag("pets", 10, "tenth");
  store_->tag("zebras", 1, "best");
  store_->tag("petshops", 1, "first");
  store_->remove("petshops");
  const auto newest = store_->list(), all = store_->list(true), versions = store_->log("pets");
  ASSERT_EQ(newest.size(), 3u);
  EXPECT_THAT(newest[0].tags, ElementsAre());
  EXPECT_THAT(newest[1].tags, ElementsAre("best", "last"));
  EXPECT_THAT(newest[2].tags, ElementsAre("best"));
  ASSERT_EQ(all.size(), 4u);
  EXPECT_THAT(all[2].tags, ElementsAre("first")) << all[2].name;
  for (const TaskSummary& version : versions) {
    EXPECT_EQ(version.tags.size(), version.version == 12                           ? 2u
                                   : version.version == 10 || version.version == 1 ? 1u
                                                                                   : 0u)
        << version.version;
  }
}

TEST_P(TagsTest, AreCheckedWhereverTheyAreShown) {
  store_->tag("pets", 3, "best");
  update_tags("created_utc = '2020-01-01T00:00:00Z'");
  error_of(Code::kDataCorruption, [&] { store_->list(); });
  error_of(Code::kDataCorruption, [&] { store_->log("pets"); });
  error_of(Code::kDataCorruption, [&] { store_->tagged("pets", "best"); });
  update_tags("version = 2");
  error_of(Code::kDataCorruption, [&] { store_->list(); });
  error_of(Code::kDataCorruption, [&] { store_->log("pets"); });
}

TEST_P(TagsTest, MoveOnlyByForce) {
  store_->tag("pets", 1, "best");
  EXPECT_EQ(store_->tag("pets", 1, "best"), 1);
  EXPECT_THAT(error_of(Code::kAlreadyExists, [&] { store_->tag("pets", 2, "best"); }), HasSubstr("names version 1"));
  EXPECT_EQ(store_->tagged("pets", "best"), 1);
  EXPECT_EQ(store_->tag("pets", 2, "best", true), 2);
  EXPECT_EQ(store_->tagged("pets", "best"), 2);
  EXPECT_THAT(error_of(Code::kAlreadyExists, [&] { store_->tag("pets", 2, "BEST", true); }), HasSubstr("'best'"));
}

TEST_P(TagsTest, StayWithTheirVersionAndGoWithTheTask) {
  store_->tag("pets", 1, "best");
  EXPECT_EQ(store_->rollback("pets", 1), 4);
  EXPECT_THAT(tags_of(4), ElementsAre());
  EXPECT_EQ(store_->commit(sample_task("pets", 5)), 5);
  store_->remove("pets");
  EXPECT_EQ(store_->tagged("pets", "best"), 1);
  EXPECT_TRUE(store_->load("pets", 1));
  store_->purge("pets");
  EXPECT_FALSE(store_->tagged("pets", "best"));
  store_->commit(sample_task("pets", 1));
  EXPECT_THAT(tags_of(1), ElementsAre());
}

TEST_P(TagsTest, AreRemovedWithoutTheirVersion) {
  store_->tag("pets", 2, "best");
  store_->untag("pets", "best");
  EXPECT_FALSE(store_->tagged("pets", "best"));
  EXPECT_TRUE(store_->load("pets", 2));
  EXPECT_THAT(error_of(Code::kNotFound, [&] { store_->untag("pets", "best"); }), HasSubstr("no tag 'best'"));
  EXPECT_THAT(error_of(Code::kNotFound, [&] { store_->untag("pet", "best"); }), HasSubstr("did you mean 'pets'?"));
}

TEST_P(TagsTest, RefuseVersionsThatAreNotThereAndNamesThatCannotBe) {
  EXPECT_THAT(error_of(Code::kNotFound, [&] { store_->tag("pets", 4, "best"); }), HasSubstr("1 to 3"));
  error_of(Code::kNotFound, [&] { store_->tag("pets", -1, "best"); });
  EXPECT_THAT(error_of(Code::kNotFound, [&] { store_->tag("pet", 1, "best"); }), HasSubstr("'pets'"));
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { store_->tag("pets", 1, "12"); }), HasSubstr("digits"));
  for (const std::string bad : {"", ".x", "a b", "a:b", "a/b", "\xc3\xa4", "a\nb"}) {
    error_of(Code::kInvalidArgument, [&] { store_->tag("pets", 1, bad); });
  }
}

RECAST_FOR_EVERY_STORE(TagsTest);

}  // namespace
}  // namespace recast
