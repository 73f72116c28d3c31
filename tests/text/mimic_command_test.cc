// recast mimic as users meet it: solvers, comparisons, sweeps, healing, and what it refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "text/toy_model_test.h"

namespace recast {
namespace {
namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class MimicCommandTest : public ToyModelTest {
 protected:
  std::vector<std::string> words(const std::vector<std::string>& more) const {
    std::vector<std::string> all = {"mimic", path("model"), "--groups", "2", "--templates", "1"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  Answer mimic(const std::vector<std::string>& more) const { return recast(words(more)); }
};

TEST_F(MimicCommandTest, SolvesAsThePaperDoes) {
  const Answer answer = mimic({"--solver", "gradient", "--steps", "200", "--out", path("new")});
  ASSERT_EQ(answer.status, 0) << answer.err;
  EXPECT_THAT(answer.out, AllOf(HasSubstr("solver gradient"), HasSubstr("blocks.3.attn.qkv")));
  const Answer inspected = RunningRecast(output_.path(), {"inspect", path("new"), "--json"}).wait();
  EXPECT_EQ(inspected.json()["config"]["bank"]["solver"], "gradient") << inspected.err;
}

TEST_F(MimicCommandTest, ComparesSweepsAndHeals) {
  const Answer compared = mimic({"--compare", "--steps", "200", "--data", path("data"), "--out", path("page.html")});
  ASSERT_EQ(compared.status, 0) << compared.err;
  EXPECT_THAT(compared.out, AllOf(HasSubstr("closed is at least"), HasSubstr("its error is at or below theirs"),
                                  HasSubstr("encoder"), HasSubstr("written to " + path("page.html"))));
  const Answer swept = recast({"mimic", path("model"), "--sweep", "--json"});
  ASSERT_EQ(swept.status, 0) << swept.err;
  EXPECT_EQ(swept.json()["points"].size(), 16U);
  EXPECT_THAT(recast({"mimic", path("model"), "--sweep"}).out, HasSubstr("with --data PATH the outputs"));
  const Answer healed = mimic({"--heal", "5", "--data", path("data"), "--out", path("healed")});
  ASSERT_EQ(healed.status, 0) << healed.err;
  EXPECT_THAT(healed.out, HasSubstr("steps of healing"));
  EXPECT_TRUE(fs::exists(folder_ / "healed" / "bank.safetensors"));
}

TEST_F(MimicCommandTest, RefusesFlagsThatCannotBeRight) {
  EXPECT_THAT(refused(2, words({"--solver", "gradent", "--out", path("new")})), HasSubstr("did you mean gradient?"));
  EXPECT_THAT(refused(2, words({})), HasSubstr("--out DIR is required"));
  EXPECT_THAT(refused(2, words({"--compare", "--sweep"})), HasSubstr("give one of them"));
  EXPECT_THAT(refused(2, words({"--compare", "--solver", "gradient"})), HasSubstr("leave --solver out"));
  EXPECT_THAT(refused(2, words({"--sweep"})), HasSubstr("leave --groups and --templates out"));
  EXPECT_THAT(refused(2, words({"--compare", "--heal", "5", "--data", path("data")})), HasSubstr("--heal belongs"));
  EXPECT_THAT(refused(2, words({"--heal", "5", "--out", path("new")})), HasSubstr("give --data PATH"));
  EXPECT_THAT(refused(2, words({"--heal", "0", "--data", path("data"), "--out", path("new")})),
              HasSubstr("at least 1 step"));
  EXPECT_THAT(refused(2, words({"--heal-rate", "0.1", "--out", path("new")})), HasSubstr("need --heal"));
  EXPECT_THAT(refused(2, words({"--steps", "0", "--out", path("new")})), HasSubstr("--steps must be at least 1"));
  EXPECT_THAT(refused(2, words({"--steps", "10", "--out", path("new")})), HasSubstr("closed takes no steps"));
  EXPECT_THAT(refused(2, words({"--solver", "gradient", "--rate", "-1", "--out", path("new")})), HasSubstr("--rate"));
  EXPECT_THAT(refused(2, words({"--solver", "gradient", "--rate", "nan", "--out", path("new")})), HasSubstr("--rate"));
  EXPECT_THAT(refused(2, words({"--solver", "gradient", "--rate", "inf", "--out", path("new")})), HasSubstr("--rate"));
  EXPECT_THAT(refused(2, words({"--solver", "gradient", "--steps", "100000000000", "--out", path("new")})),
              HasSubstr("steps must lie in"));
  EXPECT_THAT(refused(2, words({"--solver", "gradient", "--rate", "1e30", "--out", path("new")})),
              HasSubstr("diverged at step 1"));
  EXPECT_THAT(refused(2, words({"--compare", "--out", path("page.pdf")})), HasSubstr("FILE.html"));
  EXPECT_THAT(refused(4, words({"--compare", "--data", path("nothing")})), HasSubstr("nothing"));
  EXPECT_THAT(refused(3, words({"--heal", "2", "--data", path("data"), "--image-size", "17", "--out", path("new")})),
              HasSubstr("take 16 or 20"));
  EXPECT_THAT(refused(2, words({"--solver", "gradient", "--out", path("model")})), HasSubstr("--force"));
}

TEST_F(MimicCommandTest, NamesItsOwnFlagsWhereMemoryIsShort) {
  SKIP_WITH_SANITIZER();
  VitConfig wide = toy_vit_config();
  wide.width = 384;
  write_model_files(folder_ / "wide", toy_vit(1, wide), false);
  // 1,024 templates of 1152 x 384: 1.8 GB, and 1.5 GB are allowed.
  const Answer answer = run_bash(output_.path(), "ulimit -v 1500000; \"$RECAST\" mimic " + path("wide") +
                                                     " --groups 1 --templates 1024 --threads 1 --out " + path("new"));
  EXPECT_EQ(answer.status, 3) << answer.err;
  EXPECT_THAT(answer.err, AllOf(HasSubstr("[memory] not enough memory"), HasSubstr("lower --templates, --sets, "),
                                HasSubstr("end other programs or raise the limit")));
  EXPECT_THAT(answer.err, ::testing::Not(HasSubstr("--batch-size")));
  EXPECT_FALSE(fs::exists(path("new")));
}

TEST_F(MimicCommandTest, StopsOnCtrlCWithNothingWritten) {
  const auto before = paths_below(folder_.path());
  for (const std::vector<std::string>& more : {std::vector<std::string>{"--solver", "gradient", "--out", path("new")},
                                               {"--solver", "encoder", "--out", path("new")},
                                               {"--compare", "--out", path("page.html")}}) {
    std::vector<std::string> all = words(more);
    all.insert(all.end(), {"--steps", "1000000", "-v"});
    const RunningRecast running(output_.path(), all);
    while (!running.over() && running.err_so_far().find("000000 steps") == std::string::npos)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    running.interrupt();
    const Answer stopped = running.wait();
    EXPECT_EQ(stopped.status, 130) << stopped.err;
    EXPECT_THAT(stopped.err, HasSubstr("nothing was written"));
    EXPECT_EQ(paths_below(folder_.path()), before);
  }
}

}  // namespace
}  // namespace recast
