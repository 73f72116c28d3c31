// recast stream as users meet it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "text/toy_model_test.h"

namespace recast {
namespace {
namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

class StreamCommandTest : public ToyModelTest {
 protected:
  std::vector<std::string> words(const std::vector<std::string>& more) const {
    std::vector<std::string> all = {"stream", path("model"), "--task", "things", "--data", path("data")};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
};

TEST_F(StreamCommandTest, PrintsStepsMatrixAndFormulas) {
  const Answer answer = recast(words({"--base", "2", "--increment", "1", "--plug", "g-acil:width=64"}));
  ASSERT_EQ(answer.status, 0) << answer.err;
  EXPECT_THAT(answer.out, AllOf(HasSubstr("disjoint stream: 2 classes, then 1 a step"), HasSubstr("group 1"),
                                HasSubstr("(1/T) sum_s a_s"), HasSubstr("backward_transfer"), HasSubstr("v1-stream")));
  const Answer listed = recast({"tasks", path("model"), "log", "things", "--json"});
  EXPECT_EQ(listed.status, 0) << listed.err;
  const Answer measured = recast({"eval", path("model"), "--task", "things", "--json"});
  ASSERT_EQ(measured.status, 0) << measured.err;
  const Answer shown =
      recast(words({"--base", "2", "--increment", "1", "--plug", "g-acil:width=64", "--json", "--resume"}));
  ASSERT_EQ(shown.status, 0) << shown.err;
  EXPECT_EQ(shown.json()["last"], measured.json()["top1"]) << "the stored task answers as the last step did";
}

TEST_F(StreamCommandTest, ReadsItsSettingsBack) {
  const Answer printed =
      recast(words({"--increment", "1", "--stream", "mixed", "--share", "0.25", "--plug", "ncm", "--print-config"}));
  ASSERT_EQ(printed.status, 0) << printed.err;
  write_text(path("settings.yaml"), printed.out);
  const Answer answer = recast({"stream", path("model"), "--config", path("settings.yaml"), "--json"});
  ASSERT_EQ(answer.status, 0) << answer.err;
  EXPECT_EQ(answer.json()["stream"]["kind"], "mixed");
  EXPECT_EQ(answer.json()["stream"]["share"], 0.25);
}

TEST_F(StreamCommandTest, RefusesFlagsThatCannotBeRight) {
  EXPECT_THAT(refused(2, words({"--plug", "ncm"})), HasSubstr("--increment N is missing"));
  EXPECT_THAT(refused(2, words({"--increment", "1", "--stream", "blurry"})), HasSubstr("--stream"));
  EXPECT_THAT(refused(2, words({"--increment", "1", "--keep", "two"})), HasSubstr("--keep"));
  EXPECT_THAT(refused(2, words({"--increment", "1", "--base", "9", "--plug", "ncm"})), HasSubstr("the data has 3"));
  EXPECT_THAT(refused(3, words({"--increment", "1", "--stream", "mixed", "--plug", "fetril"})),
              HasSubstr("learns each class once"));
}

}  // namespace
}  // namespace recast
