#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "format/expect_error.h"
#include "format/temporary_folder.h"
#include "recast/store/task_store.h"
#include "sample_task.h"

namespace recast {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class TagsTest : public ::testing::Test {
 protected:
  TagsTest() : store_(open_sqlite_store(folder_.path(), fingerprint_of("base"), false)) {
    for (std::int64_t seed = 1; seed <= 3; ++seed) store_->commit(sample_task("pets", seed));
  }
  std::vector<std::string> tags_of(std::int64_t version) const {
    return store_->log("pets")[static_cast<std::size_t>(version - 1)].tags;
  }
  TemporaryFolder folder_;
  std::unique_ptr<TaskStore> store_;
};

TEST_F(TagsTest, NameVersions) {
  EXPECT_EQ(store_->tag("pets", 1, "paper"), 1);
  EXPECT_EQ(store_->tag("pets", 0, "best"), 3);
  EXPECT_EQ(store_->tag("pets", 1, "first"), 1);
  EXPECT_EQ(store_->tagged("pets", "best"), 3);
  EXPECT_FALSE(store_->tagged("pets", "worst"));
  EXPECT_FALSE(store_->tagged("cars", "best"));
  EXPECT_THAT(tags_of(1), ElementsAre("first", "paper"));
  EXPECT_THAT(tags_of(2), ElementsAre());
  EXPECT_THAT(store_->list()[0].tags, ElementsAre("best"));
  const auto reader = open_sqlite_store(folder_.path(), fingerprint_of("base"), true);
  EXPECT_EQ(reader->tagged("pets", "paper"), 1);
  error_of(Code::kUnavailable, [&] { reader->tag("pets", 1, "x"); });
  error_of(Code::kUnavailable, [&] { reader->untag("pets", "paper"); });
}

TEST_F(TagsTest, MoveOnlyByForce) {
  store_->tag("pets", 1, "best");
  EXPECT_EQ(store_->tag("pets", 1, "best"), 1);
  EXPECT_THAT(error_of(Code::kAlreadyExists, [&] { store_->tag("pets", 2, "best"); }), HasSubstr("names version 1"));
  EXPECT_EQ(store_->tagged("pets", "best"), 1);
  EXPECT_EQ(store_->tag("pets", 2, "best", true), 2);
  EXPECT_EQ(store_->tagged("pets", "best"), 2);
  EXPECT_THAT(error_of(Code::kAlreadyExists, [&] { store_->tag("pets", 2, "BEST", true); }), HasSubstr("'best'"));
}

TEST_F(TagsTest, StayWithTheirVersionAndGoWithTheTask) {
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

TEST_F(TagsTest, AreRemovedWithoutTheirVersion) {
  store_->tag("pets", 2, "best");
  store_->untag("pets", "best");
  EXPECT_FALSE(store_->tagged("pets", "best"));
  EXPECT_TRUE(store_->load("pets", 2));
  EXPECT_THAT(error_of(Code::kNotFound, [&] { store_->untag("pets", "best"); }), HasSubstr("no tag 'best'"));
  EXPECT_THAT(error_of(Code::kNotFound, [&] { store_->untag("pet", "best"); }), HasSubstr("did you mean 'pets'?"));
}

TEST_F(TagsTest, RefuseVersionsThatAreNotThereAndNamesThatCannotBe) {
  EXPECT_THAT(error_of(Code::kNotFound, [&] { store_->tag("pets", 4, "best"); }), HasSubstr("1 to 3"));
  error_of(Code::kNotFound, [&] { store_->tag("pets", -1, "best"); });
  EXPECT_THAT(error_of(Code::kNotFound, [&] { store_->tag("pet", 1, "best"); }), HasSubstr("'pets'"));
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { store_->tag("pets", 1, "12"); }), HasSubstr("digits"));
  for (const std::string bad : {"", ".x", "a b", "a:b", "a/b", "\xc3\xa4", "a\nb"}) {
    error_of(Code::kInvalidArgument, [&] { store_->tag("pets", 1, bad); });
  }
}

}  // namespace
}  // namespace recast
