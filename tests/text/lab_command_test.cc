// recast lab as users meet it: run, list, report; killed, stopped, failing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "lab/without_times.h"
#include "text/toy_model_test.h"

namespace recast {
namespace {
namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class LabCommandTest : public ToyModelTest {
 protected:
  LabCommandTest() {
    write_text(path("lab.yaml"), "model: " + path("model") + "\ntasks: {colours: {data: " + path("data") +
                                     ", layout: three colours}}\nrecipes:\n"
                                     "  head: {plug: linear-probe, epochs: 0}\n"
                                     "  fine: {plug: \"recast:grain=part\", epochs: 6, batch-size: 4}\n"
                                     "seeds: [5, 6]\nbaseline: head\nout: " +
                                     path("out") + "\n");
  }
  Answer lab(std::vector<std::string> more, const std::string& verb = "run") const {
    more.insert(more.begin(), {"lab", verb, path("lab.yaml")});
    return recast(more);
  }
  nlohmann::json results(const std::string& out) const {
    return without_times(nlohmann::json::parse(text_of(path(out) + "/results.json")));
  }
};

TEST_F(LabCommandTest, RunsListsAndReports) {
  const Answer listed = lab({"--list"});
  ASSERT_EQ(listed.status, 0) << listed.err;
  EXPECT_THAT(listed.out, ContainsRegex("colours/fine/6 +missing"));
  EXPECT_FALSE(fs::exists(path("out")));
  const Answer ran = lab({"--jobs", "2"});
  ASSERT_EQ(ran.status, 0) << ran.err;
  EXPECT_THAT(ran.err, AllOf(HasSubstr("colours/fine/6: test top1"), HasSubstr(" left"), Not(HasSubstr("epoch"))));
  EXPECT_THAT(ran.out, AllOf(ContainsRegex("fine +[0-9]+ +"), HasSubstr(" head "), HasSubstr(", p = "),
                             HasSubstr("4 of 4 cells done, 0 failed; " + path("out") + "/report.html")));
  EXPECT_THAT(lab({"--list"}).out, ContainsRegex("colours/fine/6 +done +[01]\\.[0-9]+"));
  EXPECT_EQ(lab({"--list", "--json"}).json()["cells"].size(), 4u);
  const Answer again = lab({"--json"});
  EXPECT_EQ(again.status, 0);
  EXPECT_THAT(again.err, IsEmpty()) << "nothing to do";
  fs::remove_all(path("model"));
  const Answer report = lab({"--json"}, "report");
  EXPECT_EQ(report.status, 0) << report.err;
  EXPECT_EQ(without_times(report.json()), without_times(again.json()));
}

TEST_F(LabCommandTest, ShowsTheConfigThatRunsTheSame) {
  const Answer config = lab({"seeds=7", "recipes.fine.epochs=1", "--print-config"});
  ASSERT_EQ(config.status, 0) << config.err;
  EXPECT_THAT(config.out, AllOf(HasSubstr("seeds: 7\n"), HasSubstr("    epochs: 1\n")));
  write_text(path("again.yaml"), config.out);
  EXPECT_EQ(recast({"lab", "run", path("again.yaml"), "--print-config"}).out, config.out);
  EXPECT_FALSE(fs::exists(path("out")));
}

TEST_F(LabCommandTest, KilledAnywhereItComesToTheSameResults) {
  ASSERT_EQ(lab({"--out", path("whole"), "-q"}).status, 0);
  int kills = 0;
  for (int ms = 200;; ms = ms * 7 / 5) {
    const RunningRecast running(output_.path(), {"lab", "run", path("lab.yaml"), "-q"});
    for (int waited = 0; waited < ms && !running.over(); waited += 5)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    if (running.over()) {
      const Answer answer = running.wait();
      ASSERT_EQ(answer.status, 0) << answer.err;
      break;
    }
    running.signal(SIGKILL);
    running.wait();
    ASSERT_LT(++kills, 60);
  }
  EXPECT_GT(kills, 0);
  EXPECT_EQ(results("out")["rows"], results("whole")["rows"]);
  EXPECT_EQ(results("out")["cells"], results("whole")["cells"]);
}

TEST_F(LabCommandTest, AStreamThatWasKilledGoesOnFromItsLastStep) {
  write_text(path("lab.yaml"), "model: " + path("model") + "\ntasks: {colours: {data: " + path("data") +
                                   ", scenario: class-il, increment: 1}}\nrecipes:\n"
                                   "  moving: {plug: finetune, recipe: steps, epochs: 30, batch-size: 4}\n"
                                   "seeds: 5\nout: " +
                                   path("out") + "\n");
  const Answer whole = lab({"--out", path("whole")});
  ASSERT_EQ(whole.status, 0) << whole.err;
  EXPECT_THAT(whole.err, HasSubstr(" on average over 3 steps"));
  EXPECT_THAT(whole.out, AllOf(HasSubstr("average, all streams"), Not(HasSubstr("all tasks"))));
  std::string out, run;
  for (int i = 1; i <= 5 && (i == 1 || fs::exists(run + "/results.json")); ++i) {  // it may be done before it is killed
    out = fmt::format("out{}", i);
    run = path(out + "/runs/colours/moving/5");
    const RunningRecast running(output_.path(), {"lab", "run", path("lab.yaml"), "-q", "--out", path(out)});
    while (!fs::exists(run + "/metrics.csv") && !running.over())  // written once a step is stored
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    running.signal(SIGKILL);
    running.wait();
  }
  ASSERT_FALSE(fs::exists(run + "/results.json")) << "killed too late to tell";
  EXPECT_THAT(lab({"--list", "--out", path(out)}).out,
              AllOf(ContainsRegex("colours/moving/5 +begun"), HasSubstr("average")));
  ASSERT_EQ(lab({"-q", "--out", path(out)}).status, 0);
  EXPECT_THAT(text_of(run + "/run.log"), ContainsRegex("[12] steps are stored: going on from there"));
  EXPECT_EQ(results(out)["rows"], results("whole")["rows"]);
  EXPECT_EQ(results(out)["cells"], results("whole")["cells"]);
}

/// More than any machine learns before it is interrupted.
constexpr const char* kWithoutEnd = "recipes.fine.epochs=1000000";

TEST_F(LabCommandTest, StopsOnCtrlCAndGoesOn) {
  const RunningRecast running(output_.path(), {"lab", "run", path("lab.yaml"), kWithoutEnd});
  while (running.err_so_far().find("colours/head/5: test") == std::string::npos && !running.over())
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  running.interrupt();
  const Answer stopped = running.wait();
  ASSERT_EQ(stopped.status, 130) << stopped.err;
  EXPECT_THAT(stopped.err, HasSubstr("the same command goes on from here"));
  EXPECT_TRUE(fs::exists(path("out/report.html")));
  EXPECT_THAT(lab({kWithoutEnd, "--list"}).out, ContainsRegex("colours/fine/5 +begun"));
}

TEST_F(LabCommandTest, SaysWithItsStatusThatCellsFailed) {
  const Answer answer = lab({"recipes.fine.plug=[clr]"});
  EXPECT_EQ(answer.status, 1);
  EXPECT_THAT(answer.err, HasSubstr("WARNING: [2/4] colours/fine/5 failed: [clr]"));
  EXPECT_THAT(answer.out, AllOf(HasSubstr("2 of 4 cells done, 2 failed"), HasSubstr("failed: colours/fine/5: [clr]")));
}

TEST_F(LabCommandTest, RefusesWhatCannotBeRight) {
  EXPECT_THAT(refused(2, {"lab"}), HasSubstr("[usage]"));
  EXPECT_THAT(refused(2, {"lab", "run", path("lab.yaml"), "recipes.fine.epoch=1"}),
              HasSubstr("did you mean 'epochs'?"));
  EXPECT_THAT(refused(2, {"lab", "run", path("lab.yaml"), "--cells", "colors"}), HasSubstr("did you mean 'colours'?"));
  EXPECT_THAT(refused(2, {"lab", "run", path("lab.yaml"), "--jobs", "0"}), HasSubstr("--jobs"));
  EXPECT_THAT(refused(4, {"lab", "run", path("none.yaml")}), HasSubstr("none.yaml"));
  write_text(path("bad.yaml"), "tasks: [\n");
  EXPECT_THAT(refused(5, {"lab", "run", path("bad.yaml")}), HasSubstr("not YAML"));
  const Answer missing = lab({"tasks.colours.data=" + path("gone")});
  EXPECT_EQ(missing.status, 4);
  EXPECT_THAT(missing.err,
              AllOf(HasSubstr("WARNING: task colours: no " + path("gone") + "; expected there: three colours"),
                    HasSubstr("tasks.NAME.data=PATH")));
}

TEST_F(LabCommandTest, OneAtATimeWorksInAFolder) {
  const RunningRecast running(output_.path(), {"lab", "run", path("lab.yaml"), kWithoutEnd});
  while (running.err_so_far().find("colours/head/5: test") == std::string::npos && !running.over())
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  const TemporaryFolder other;
  const Answer second = RunningRecast(other.path(), {"lab", "run", path("lab.yaml")}).wait();
  EXPECT_EQ(second.status, 1);
  EXPECT_THAT(second.err, HasSubstr("another recast lab works in"));
  running.signal(SIGKILL);
  running.wait();
}

}  // namespace
}  // namespace recast
