// The program as users meet it: what it prints where, and with which exit status it ends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <thread>

#include "text/toy_model_test.h"

namespace recast {
namespace {
namespace fs = std::filesystem;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

class CommandLineTest : public ToyModelTest {
 protected:
  Answer learn(const std::string& task, std::vector<std::string> more = {}) const {
    std::vector<std::string> words = {"learn", path("model"), "--task", task, "--data", path("data"), "--epochs", "1"};
    words.insert(words.end(), more.begin(), more.end());
    return recast(std::move(words));
  }
};

const std::vector<std::string> kCommands = {"import", "mimic",      "learn",  "stream", "eval",    "predict",
                                            "tasks",  "inspect",    "report", "export", "methods", "doctor",
                                            "errors", "completion", "man",    "lab"};

TEST_F(CommandLineTest, EveryCommandHasHelpWithAnExampleAndAVersion) {
  EXPECT_EQ(recast({"--help"}).status, 0);
  EXPECT_THAT(recast({"--version"}).out, StartsWith("recast "));
  for (const std::string& command : kCommands) {
    const Answer help = recast({command, "--help"});
    EXPECT_EQ(help.status, 0) << command;
    EXPECT_THAT(help.out, HasSubstr("Example:\n  recast " + command)) << command;
    EXPECT_THAT(help.out, HasSubstr("--json")) << command;
    EXPECT_THAT(recast({command, "--version"}).out, StartsWith("recast ")) << command;
  }
}

TEST_F(CommandLineTest, LearnsMeasuresPredictsAndListsAsJson) {
  const Answer learned = learn("colours", {"--json"});
  ASSERT_EQ(learned.status, 0) << learned.err;
  EXPECT_EQ(learned.json()["version"], 1);
  EXPECT_THAT(learned.err, HasSubstr("train  epoch"));
  const Answer measured = recast({"eval", path("model"), "--task", "colours", "--json"});
  EXPECT_EQ(measured.json()["loss"], learned.json()["test"]["loss"]);
  EXPECT_EQ(recast({"eval", path("model"), "--json"}).json()["tasks"].size(), 1u);
  const Answer predicted = recast(
      {"predict", path("model"), "--task", "colours", path("data/red/0.png"), path("data/blue/0.png"), "--json"});
  EXPECT_EQ(predicted.json()["predictions"].size(), 2u) << predicted.err;
  EXPECT_EQ(recast({"tasks", path("model"), "list", "--json"}).json()["tasks"][0]["task"], "colours");
  EXPECT_EQ(recast({"inspect", path("model"), "--json"}).json()["tasks"], 1);
  EXPECT_THAT(recast({"inspect", path("model")}).out, ContainsRegex("recast:grain=slot +16"));
  EXPECT_EQ(recast({"methods", "recast", "--json"}).json()["methods"][0]["name"], "recast");
  EXPECT_TRUE(recast({"doctor", "--json"}).json().contains("machine"));
}

TEST_F(CommandLineTest, TasksTravelInFiles) {
  ASSERT_EQ(learn("colours", {"-q"}).status, 0);
  ASSERT_EQ(recast({"tasks", path("model"), "export", "colours", path("task file.safetensors")}).status, 0);
  EXPECT_THAT(refused(2, {"tasks", path("model"), "export", "colours", path("task file.safetensors")}),
              HasSubstr("--force"));
  EXPECT_EQ(recast({"tasks", path("model"), "export", "colours", path("task file.safetensors"), "--force"}).status, 0);
  EXPECT_EQ(recast({"tasks", path("model"), "import", path("task file.safetensors"), "--as", "twin"}).status, 0);
  EXPECT_EQ(recast({"tasks", path("model"), "diff", "colours", "twin"}).out, "equal\n");
  EXPECT_EQ(recast({"tasks", path("model"), "remove", "twin"}).status, 0);
  EXPECT_EQ(recast({"tasks", path("model"), "rollback", "twin"}).status, 0);
  EXPECT_EQ(recast({"tasks", path("model"), "remove", "twin", "--purge"}).status, 0);
  EXPECT_THAT(refused(4, {"tasks", path("model"), "show", "twin"}), HasSubstr("twin"));
}

TEST_F(CommandLineTest, SuggestsTheNearestName) {
  EXPECT_THAT(refused(2, {"lern", path("model")}), HasSubstr("did you mean 'learn'?"));
  EXPECT_THAT(refused(2, {"learn", path("model"), "--taks", "x"}), HasSubstr("did you mean '--task'?"));
  EXPECT_THAT(refused(2, {"tasks", path("model"), "lst"}), HasSubstr("did you mean 'list'?"));
  EXPECT_THAT(refused(2, {"learn", path("model"), "--task", "x", "--data", path("data"), "--plug", "recats"}),
              HasSubstr("did you mean 'recast'?"));
  EXPECT_THAT(refused(2, {"methods", "linear-prob"}), HasSubstr("did you mean 'linear-probe'?"));
}

TEST_F(CommandLineTest, EndsWithTwoForBadFlagsAndOptions) {
  refused(2, {});
  refused(2, {"learn", path("model"), "--data", path("data")});
  refused(2, {"learn", path("model"), "--task", "x", "--data", path("data"), "--epochs", "many"});
  refused(2, {"learn", path("model"), "--task", "x", "--data", path("data"), "--threads", "0"});
  refused(2, {"learn", path("model"), "--task", "x", "--data", path("data"), "--amp", "fp8"});
  EXPECT_THAT(refused(2, {"learn", path("model"), "--task", "x", "--data", path("data"), "--plug", "recast:grain=big"}),
              HasSubstr("slot|part|head|block"));
  refused(2, {"mimic", path("model"), "--groups", "0", "--out", path("new")});
  EXPECT_THAT(refused(2, {"mimic", path("model"), "--groups", "2", "--out", path("model")}), HasSubstr("--force"));
}

TEST_F(CommandLineTest, TakesNumbersAsTheyAreMeantOrNotAtAll) {
  const auto with = [&](const char* flag, const char* value) {
    return std::vector<std::string>{"learn", path("model"), "--task", "x", "--data", path("data"), flag, value};
  };
  for (const char* seed : {"18446744073709551616", "-1", "0x10", "1e3", " 1", ""})
    EXPECT_THAT(refused(2, with("--seed", seed)), HasSubstr("--seed: must be a whole number from 0 to 1844674407"));
  EXPECT_THAT(refused(2, with("--epochs", "99999999999999999999")), HasSubstr("whole number"));
  for (const char* rate : {"inf", "nan", "1e400", "", "1,5"})
    EXPECT_THAT(refused(2, with("--lr", rate)), HasSubstr("--lr: must be a finite number"));
  auto words = with("--seed", "010");
  words.push_back("--print-config");
  EXPECT_THAT(recast(words).out, HasSubstr("\nseed: 10\n"));
}

TEST_F(CommandLineTest, RefusesEmptyTextsInsteadOfTakingADefault) {
  EXPECT_THAT(refused(2, {"eval", path("model"), "--data", ""}), HasSubstr("--data: got an empty text"));
  EXPECT_THAT(refused(2, {"doctor", ""}), HasSubstr("got an empty text"));
  EXPECT_THAT(refused(2, {"learn", path("model"), "--task", "x", "--data", path("data"), "--config", ""}),
              HasSubstr("--config: got an empty text"));
}

TEST_F(CommandLineTest, SaysItInOneLineWhateverANameHolds) {
  EXPECT_THAT(refused(4, {"inspect", path("a\nb\x1b[31m")}), HasSubstr("a\\x0ab\\x1b[31m: no such directory"));
}

TEST_F(CommandLineTest, PointsToHelpThatIsThere) {
  EXPECT_THAT(refused(2, {"tasks", path("model"), "diff", "a"}), HasSubstr("see recast tasks DIR diff --help\n"));
  EXPECT_THAT(refused(2, {"learn", "--nonsense"}), HasSubstr("see recast learn --help\n"));
}

TEST_F(CommandLineTest, EndsWithThreeForContentThatDoesNotFit) {
  write_toy_images(path("one"), {"only"}, 5);
  refused(3, {"learn", path("model"), "--task", "x", "--data", path("one")});
  write_text(path("model.pth"), "PK\x03\x04" + std::string(600, 'x'));
  EXPECT_THAT(refused(3, {"import", path("model.pth"), "--arch", "vit_tiny_patch16_224", "--out", path("new")}),
              HasSubstr("zip"));
  refused(3, {"learn", path("model"), "--task", "x", "--data", path("data"), "--image-size", "15"});
}

TEST_F(CommandLineTest, EndsWithFourForWhatIsMissing) {
  refused(4, {"learn", path("nothing"), "--task", "x", "--data", path("data")});
  refused(4, {"learn", path("model"), "--task", "x", "--data", path("nothing")});
  refused(4, {"eval", path("model"), "--task", "x"});
  refused(4, {"predict", path("model"), "--task", "x", path("nothing.png")});
  refused(4, {"import", path("nothing"), "--arch", "vit_tiny_patch16_224", "--out", path("new")});
}

TEST_F(CommandLineTest, EndsWithFiveForCorruptFiles) {
  fs::resize_file(path("model/backbone.safetensors"), 1000);
  refused(5, {"inspect", path("model")});
  refused(5, {"learn", path("model"), "--task", "x", "--data", path("data")});
}

TEST_F(CommandLineTest, ReportsErrorsAsJsonToo) {
  const Answer answer = recast({"inspect", path("nothing"), "--json"});
  EXPECT_EQ(answer.status, 4);
  EXPECT_THAT(answer.out, IsEmpty());
  EXPECT_EQ(nlohmann::json::parse(answer.err)["error"]["code"], "not_found");
}

TEST_F(CommandLineTest, WritesItsDocumentToAFileOnceUnlessForced) {
  ASSERT_EQ(recast({"inspect", path("model"), "--json", "--out", path("report.json")}).status, 0);
  EXPECT_TRUE(nlohmann::json::parse(text_of(path("report.json"))).contains("fingerprint"));
  EXPECT_THAT(refused(2, {"inspect", path("model"), "--out", path("report.json")}), HasSubstr("--force"));
  EXPECT_EQ(recast({"inspect", path("model"), "--out", path("report.json"), "--force"}).status, 0);
}

TEST_F(CommandLineTest, TakesSettingsFromFlagThenEnvironmentThenFile) {
  write_text(path("config.yaml"),
             "task: from-file\ndata: " + path("data") + "\nseed: 1\nepochs: 1\nbatch-size: 4\nplug: [linear-probe]\n");
  const Answer answer = recast({"learn", path("model"), "--config", path("config.yaml"), "--epochs", "2", "--json"},
                               {{"RECAST_SEED", "2"}, {"RECAST_EPOCHS", "3"}});
  ASSERT_EQ(answer.status, 0) << answer.err;
  EXPECT_EQ(answer.json()["task"], "from-file");
  EXPECT_EQ(answer.json()["seed"], 2);
  EXPECT_EQ(answer.json()["coefficients"], 0);
  const std::string written = text_of(fs::path(answer.json()["run"].get<std::string>()) / "config.yaml");
  EXPECT_THAT(written, HasSubstr("epochs: 2"));
  EXPECT_THAT(written, HasSubstr("batch-size: 4"));

  write_text(path("bad.yaml"), "batchsize: 4\n");
  EXPECT_THAT(refused(2, {"learn", path("model"), "--config", path("bad.yaml")}),
              HasSubstr("did you mean 'batch-size'?"));
}

TEST_F(CommandLineTest, RerunsARunFromItsConfigAlone) {
  const Answer first = learn("colours", {"--plug", "recast:grain=part", "--json"});
  ASSERT_EQ(first.status, 0) << first.err;
  const std::string config = (fs::path(first.json()["run"].get<std::string>()) / "config.yaml").string();
  const Answer second = recast({"learn", "--config", config, "--json"});
  ASSERT_EQ(second.status, 0) << second.err;
  EXPECT_EQ(second.json()["version"], 2);
  EXPECT_EQ(second.json()["test"], first.json()["test"]);
  EXPECT_EQ(recast({"learn", "--config", config, "--print-config"}).out, text_of(config));
}

TEST_F(CommandLineTest, GivesAPlugOneValueSoThatADirectoryMayFollow) {
  const Answer answer = recast({"learn", "--task", "x", "--data", path("data"), "--epochs", "0", "--plug",
                                "linear-probe", path("model"), "--json"});
  EXPECT_EQ(answer.status, 0) << answer.err;
}

TEST_F(CommandLineTest, IsTestedWithoutTheStoreOfWhoeverTestsIt) {
  ::setenv("RECAST_STORE", "postgresql://me@127.0.0.1:1/fleet", 1);
  const Answer answer = recast({"tasks", path("model"), "list"});
  ::unsetenv("RECAST_STORE");
  EXPECT_EQ(answer.status, 0) << answer.err;
}

TEST_F(CommandLineTest, HandlesNamesOutsideAscii) {
  write_toy_images(path("Bilder ä ö"), {"weiß", "日本"}, 6);
  const Answer answer =
      recast({"learn", path("model"), "--task", "x", "--data", path("Bilder ä ö"), "--epochs", "0", "--json"});
  ASSERT_EQ(answer.status, 0) << answer.err;
  EXPECT_EQ(answer.json()["labels"], nlohmann::json({"weiß", "日本"}));
}

TEST_F(CommandLineTest, StopsOnCtrlCAndResumesToTheSameResult) {
  const std::vector<std::string> words = {"learn", path("model"),  "--data", path("data"), "--epochs",
                                          "40",    "--batch-size", "4",      "--json",     "--task"};
  auto with = [&](std::initializer_list<std::string> more) {
    std::vector<std::string> all = words;
    all.insert(all.end(), more);
    return all;
  };
  const Answer whole = recast(with({"whole"}));
  ASSERT_EQ(whole.status, 0) << whole.err;
  std::string task;
  Answer stopped;
  for (int i = 1; i <= 5 && stopped.status != 130; ++i) {  // one may be done before it is interrupted
    task = fmt::format("stopped{}", i);
    const RunningRecast running(output_.path(), with({task}));
    while (running.err_so_far().find("train  epoch") == std::string::npos && !running.over())
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    running.interrupt();
    stopped = running.wait();
  }
  ASSERT_EQ(stopped.status, 130) << stopped.err;
  EXPECT_THAT(stopped.err, HasSubstr("--resume goes on from"));
  const Answer resumed = recast(with({task, "--resume"}));
  ASSERT_EQ(resumed.status, 0) << resumed.err;
  EXPECT_EQ(resumed.json()["test"], whole.json()["test"]);
  const Answer again = recast(with({task, "--resume"}));
  EXPECT_EQ(again.status, 0);
  EXPECT_THAT(again.err, HasSubstr("is complete"));
}

}  // namespace
}  // namespace recast
