// What the program says when something goes wrong: crashes, signals, closed streams, want of memory, logs, the doctor.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <thread>

#include "recast/base/error_table.h"
#include "text/toy_model_test.h"

namespace recast {
namespace {
namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

class DiagnosisTest : public ToyModelTest {
 protected:
  Answer bash(const std::string& line) const { return run_bash(output_.path(), line); }
  std::vector<std::string> learning(const std::string& epochs) const {
    return {"learn", path("model"), "--task", "colours", "--data", path("data"), "--epochs", epochs, "--force"};
  }
  /// Sends a signal to a learning run in the middle of its epochs.
  Answer signalled(int number) const {
    std::vector<std::string> words = {RECAST_PROGRAM};
    for (const std::string& word : learning("100000")) words.push_back(word);
    const RunningProgram running(output_.path(), words);
    using Clock = std::chrono::steady_clock;
    const Clock::time_point latest = Clock::now() + std::chrono::seconds(30);
    while (running.err_so_far().find("train  epoch") == std::string::npos && !running.over() && Clock::now() < latest)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    running.signal(number);
    return running.wait();
  }
  nlohmann::json check(const nlohmann::json& report, const std::string& name, const std::string& verdict) const {
    for (const auto& each : report["checks"])
      if (each["check"] == name && each["verdict"] == verdict) return each;
    ADD_FAILURE() << "no '" << name << "' is '" << verdict << "' in " << report["checks"].dump(1);
    return {{"text", ""}, {"remedy", ""}};
  }
  std::map<std::string, std::string> content() const {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::recursive_directory_iterator(folder_.path()))
      files[entry.path().string()] = entry.is_regular_file() ? text_of(entry.path()) : "";
    return files;
  }
};

// ---- crashes and signals ----

TEST_F(DiagnosisTest, ACrashTellsWhatHappenedWhereAndWhatIsSafe) {
  SKIP_WITH_SANITIZER();
  const Answer answer = signalled(SIGSEGV);
  EXPECT_EQ(answer.status, -SIGSEGV) << "the signal takes its course";
  EXPECT_THAT(answer.err, HasSubstr("recast: crashed: access to memory that is not there (SIGSEGV, sent by process"));
  EXPECT_THAT(answer.err, HasSubstr("version  0.1.0, PyTorch"));
  EXPECT_THAT(answer.err, HasSubstr("command  recast learn " + path("model") + " --task colours"));
  EXPECT_THAT(answer.err, HasSubstr("stage    train"));
  EXPECT_THAT(answer.err, HasSubstr("/recast(+0x"));
  EXPECT_THAT(answer.err, HasSubstr("Tasks stored before are safe"));
  EXPECT_THAT(answer.err, HasSubstr("recast doctor"));
}

TEST_F(DiagnosisTest, AnAbortIsNeverBare) {
  SKIP_WITH_SANITIZER();
  const Answer answer = signalled(SIGABRT);
  EXPECT_EQ(answer.status, -SIGABRT);
  EXPECT_THAT(answer.err, AllOf(HasSubstr("crashed: a check inside recast or a library failed"),
                                HasSubstr("Tasks stored before are safe")));
}

TEST_F(DiagnosisTest, TerminationStopsAsCtrlCDoes) {
  const Answer answer = signalled(SIGTERM);
  EXPECT_EQ(answer.status, 128 + SIGTERM) << answer.err;
  EXPECT_THAT(answer.err, HasSubstr("--resume goes on from"));
  EXPECT_EQ(check(recast({"doctor", path("model"), "--json"}).json(), "run", "warn")["remedy"].get<std::string>().find(
                "go on: recast learn --config"),
            0u);
  EXPECT_EQ(signalled(SIGHUP).status, 128 + SIGHUP);
}

TEST_F(DiagnosisTest, AReaderThatLeavesIsNoError) {
  const Answer answer = bash("set -o pipefail; \"$RECAST\" completion fish | (exec <&-; sleep 0.5)");
  EXPECT_EQ(answer.status, 128 + SIGPIPE);
  EXPECT_THAT(answer.err, IsEmpty());
}

TEST_F(DiagnosisTest, OutputThatIsLostIsAnError) {
  for (const char* line : {"\"$RECAST\" methods > /dev/full", "\"$RECAST\" methods >&-"}) {
    const Answer answer = bash(line);
    EXPECT_EQ(answer.status, 1) << line;
    EXPECT_THAT(answer.err, HasSubstr("[output] standard output")) << line;
  }
}

TEST_F(DiagnosisTest, ClosedStreamsEndInNoFile) {
  const Answer answer = bash("\"$RECAST\" learn " + path("model") + " --task colours --data " + path("data") +
                             " --epochs 1 <&- >&- 2>&-");
  EXPECT_EQ(answer.status, 1);
  EXPECT_EQ(recast({"doctor", path("model")}).status, 0);
  EXPECT_EQ(recast({"tasks", path("model"), "list", "--json"}).json()["tasks"].size(), 1u) << "the work was done";
}

TEST_F(DiagnosisTest, WantOfMemoryIsAnErrorWithARemedy) {
  SKIP_WITH_SANITIZER();
  // A file that promises 3 GB of weights and keeps the promise with a hole.
  const std::string header =
      R"({"blocks.0.x":{"dtype":"F32","shape":[750000000],"data_offsets":[0,3000000000]}})" + std::string(2, ' ');
  std::string begin(8, '\0');
  begin[0] = static_cast<char>(header.size());
  write_text(path("huge.safetensors"), begin + header);
  fs::resize_file(path("huge.safetensors"), 8 + header.size() + 3'000'000'000);
  const Answer answer = bash("ulimit -v 1500000; \"$RECAST\" import " + path("huge.safetensors") +
                             " --arch vit_tiny_patch16_224 --out " + path("new"));
  EXPECT_EQ(answer.status, 3) << answer.err;
  EXPECT_THAT(answer.err, AllOf(HasSubstr("memory"), HasSubstr("(exhausted)")));
  EXPECT_FALSE(fs::exists(path("new")));
}

// ---- log ----

TEST_F(DiagnosisTest, LogsEventsWhereAndHowItIsAsked) {
  EXPECT_THAT(recast({"methods"}).err, IsEmpty());
  const Answer text = recast({"methods", "--log-level", "info"});
  EXPECT_THAT(text.err, AllOf(HasSubstr(" info command.began command=\"recast methods --log-level info\""),
                              HasSubstr(" info command.done ms=")));
  EXPECT_EQ(recast({"methods", "--log", path("log"), "--log-format", "json"}).err, "");
  EXPECT_EQ(recast({"inspect", path("none")},
                   {{"RECAST_LOG", path("log")}, {"RECAST_LOG_FORMAT", "json"}, {"RECAST_LOG_LEVEL", "debug"}})
                .status,
            4);
  std::istringstream lines(text_of(path("log")));
  std::vector<nlohmann::json> events;
  for (std::string line; std::getline(lines, line);) events.push_back(nlohmann::json::parse(line));
  ASSERT_GE(events.size(), 5u) << "appended";
  EXPECT_EQ(events[0]["event"], "command.began");
  EXPECT_EQ(events.back()["event"], "command.failed");
  EXPECT_EQ(events.back()["code"], "not_found");
  EXPECT_EQ(std::count_if(events.begin(), events.end(), [](const auto& e) { return e["event"] == "setting.taken"; }),
            3);
}

TEST_F(DiagnosisTest, LogsWhatALearningRunDoes) {
  std::vector<std::string> words = learning("1");
  words.insert(words.end(), {"-q", "--log", path("log"), "--log-level", "debug"});
  ASSERT_EQ(recast(words).status, 0);
  const std::string log = text_of(path("log"));
  for (const char* event : {"model.opened", "dataset.opened", "epoch.done", "checkpoint.saved", "task.saved"})
    EXPECT_THAT(log, HasSubstr(std::string(" ") + event + " ")) << event;
}

TEST_F(DiagnosisTest, RefusesLogsThatCannotBeWritten) {
  EXPECT_EQ(recast({"methods", "--log-level", "loud"}).status, 2);
  const Answer answer = recast({"methods", "--log", path("none/log")});
  EXPECT_EQ(answer.status, 1);
  EXPECT_THAT(answer.err, HasSubstr("--log"));
}

// ---- errors ----

TEST_F(DiagnosisTest, ExplainsEveryCode) {
  const Answer one = recast({"errors", "exhausted"});
  EXPECT_EQ(one.status, 0);
  EXPECT_THAT(one.out, AllOf(StartsWith("exhausted: "), HasSubstr("Lower `--batch-size`")));
  EXPECT_EQ(recast({"errors", "--json"}).json()["errors"].size(), error_table().size());
  EXPECT_EQ(recast({"errors", "--markdown"}).out, error_page());
  EXPECT_THAT(recast({"errors", "data_corruptoin"}).err, HasSubstr("did you mean 'data_corruption'?"));
}

TEST_F(DiagnosisTest, NamesTheCodeWhereItHasMoreToSay) {
  EXPECT_THAT(recast({"inspect", path("none")}).err, HasSubstr("(not_found)\n"));
  EXPECT_THAT(recast({"lern"}).err, Not(HasSubstr("invalid_argument")));
}

// ---- manual and completion ----

TEST_F(DiagnosisTest, PrintsAManualWithEveryCommandAndFlag) {
  const std::string page = recast({"man"}).out;
  EXPECT_THAT(page, HasSubstr(".TH RECAST 1"));
  for (const char* part : {".SS recast learn", ".SS recast tasks", "tasks ... rollback", "\\-\\-image\\-size",
                           "bf16|fp32", "\\-\\-log\\-level", "data_corruption"})
    EXPECT_THAT(page, HasSubstr(part));
  if (bash("command -v man").status != 0) GTEST_SKIP() << "man is not installed";
  write_text(path("recast.1"), page);
  const Answer shown = bash("LC_ALL=C.UTF-8 MANROFFSEQ= MANWIDTH=100 man --warnings -E UTF-8 -l " + path("recast.1"));
  EXPECT_EQ(shown.status, 0);
  EXPECT_THAT(shown.err, IsEmpty());
  EXPECT_THAT(shown.out, HasSubstr("recast learn model --task pets --data photos/pets --plug recast:grain=head"));
}

TEST_F(DiagnosisTest, CompletesInBash) {
  write_text(path("script"), recast({"completion", "bash"}).out);
  auto offered = [&](const std::string& typed) {
    return bash("cd " + folder_.path().string() + "; source ./script; COMP_WORDS=(" + typed +
                "); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _recast; printf '%s\\n' \"${COMPREPLY[@]}\"")
        .out;
  };
  EXPECT_EQ(offered("recast lea"), "learn\n");
  EXPECT_EQ(offered("recast learn mod"), "model\n");
  EXPECT_EQ(offered("recast learn model --print-c"), "--print-config\n");
  EXPECT_EQ(offered("recast learn model --amp ''"), "bf16\nfp32\n");
  EXPECT_EQ(offered("recast learn model --amp = b"), "bf16\n");
  EXPECT_EQ(offered("recast learn --recipe pa"), "paper\n");
  EXPECT_EQ(offered("recast learn --plug linear"), "linear-probe\n");
  EXPECT_EQ(offered("recast learn --task x mod"), "model\n") << "a flag's value is no positional";
  EXPECT_EQ(offered("recast methods adam"), "adamw\n");
  EXPECT_EQ(offered("recast tasks model rollb"), "rollback\n");
  EXPECT_EQ(offered("recast tasks model remove x --pur"), "--purge\n");
  EXPECT_EQ(offered("recast tasks model import x scr"), "\n");
  EXPECT_EQ(offered("recast tasks model import scr"), "script\n");
  EXPECT_EQ(offered("recast completion z"), "zsh\n");
}

TEST_F(DiagnosisTest, CompletesInZshAndFish) {
  write_text(path("_recast"), recast({"completion", "zsh"}).out);
  write_text(path("recast.fish"), recast({"completion", "fish"}).out);
  if (bash("command -v zsh && command -v fish").status != 0) GTEST_SKIP() << "zsh and fish are not installed";
  // The only honest way to ask zsh is a terminal of its own.
  write_text(path("ask.zsh"), R"zsh(
zmodload zsh/zpty
zpty shell zsh -f
zpty -w shell 'PS1=; cd $FOLDER; fpath=($FOLDER $fpath); autoload -U compinit; compinit -u -D; LISTMAX=0; print READY'
while zpty -r shell line; do [[ $line == *READY* && $line != *print* ]] && break; done
zpty -w -n shell "$1"$'\t'
zpty -r -m shell line "*$2*" && print -r -- "$line"
)zsh");
  auto completes_in_zsh = [&](const std::string& typed, const std::string& to) {
    return bash("cd " + folder_.path().string() + "; FOLDER=$PWD timeout 20 zsh -f ask.zsh '" + typed + "' '" + to +
                "'")
               .status == 0;
  };
  EXPECT_TRUE(completes_in_zsh("recast lea", "recast learn"));
  EXPECT_TRUE(completes_in_zsh("recast learn model --print-c", "--print-config"));
  EXPECT_TRUE(completes_in_zsh("recast tasks model rollb", "rollback"));
  auto fish = [&](const std::string& typed) {
    return bash("cd " + folder_.path().string() + "; fish -N -c 'source recast.fish; complete -C \"" + typed + "\"'")
        .out;
  };
  EXPECT_THAT(fish("recast lea"), StartsWith("learn\t"));
  EXPECT_THAT(fish("recast learn --print-c"), StartsWith("--print-config\t"));
  EXPECT_THAT(fish("recast learn --amp b"), StartsWith("bf16"));
  EXPECT_THAT(fish("recast tasks model rollb"), StartsWith("rollback\t"));
}

// ---- doctor ----

TEST_F(DiagnosisTest, TheDoctorFindsAHealthyModelHealthyAndChangesNothing) {
  ASSERT_EQ(recast(learning("1")).status, 0);
  const auto before = content();
  const Answer answer = recast({"doctor", path("model"), "--json"});
  EXPECT_EQ(answer.status, 0) << answer.out;
  const nlohmann::json report = answer.json();
  EXPECT_EQ(report["healthy"], true);
  EXPECT_EQ(report["model"]["tasks"], 1);
  EXPECT_EQ(report["model"]["versions"], 1);
  EXPECT_EQ(report["model"]["fingerprint"], recast({"inspect", path("model"), "--json"}).json()["fingerprint"]);
  EXPECT_THAT(report["libraries"]["libtorch"].get<std::string>(), HasSubstr("/libtorch_cpu.so"));
  EXPECT_EQ(report["libraries"]["openmp"].size(), 1u) << "one OpenMP runtime, the wheel's";
  for (const char* name :
       {"processor", "threads", "libtorch", "openmp", "sqlite", "cuda", "model", "store", "tasks", "runs", "leftovers"})
    check(report, name, "ok");
  EXPECT_THAT(recast({"doctor", path("model")}).out, HasSubstr("OK    tasks      1 tasks, 1 versions"));
  EXPECT_EQ(content(), before);
}

TEST_F(DiagnosisTest, TheDoctorNamesWhatIsDamagedAndWhatToDo) {
  ASSERT_EQ(recast(learning("1")).status, 0);
  write_text(path("model/.recast-1999999999-0.tmp"), "left");
  const Answer left = recast({"doctor", path("model"), "--json"}, {{"RECAST_EPOCH", "3"}, {"RECAST_SEED", "4"}});
  EXPECT_EQ(left.status, 0) << "a warning is no failure";
  check(left.json(), "leftovers", "warn");
  EXPECT_THAT(check(left.json(), "setting", "warn")["remedy"].get<std::string>(), HasSubstr("RECAST_EPOCHS"));
  for (const char* url : {"postgresql://me:hunter2@db/fleet", "host=db password=hunter2"}) {
    const Answer misspelt = recast({"doctor", "--json"}, {{"RECAST_STORES", url}});
    EXPECT_THAT(misspelt.out, AllOf(HasSubstr("RECAST_STORES"), Not(HasSubstr("hunter2"))));
  }
  EXPECT_THAT(check(left.json(), "setting", "ok")["text"].get<std::string>(), HasSubstr("sets --seed"));

  const fs::path backbone = path("model/backbone.safetensors");
  const std::string sound = text_of(backbone);
  fs::resize_file(backbone, 1000);
  const Answer cut = recast({"doctor", path("model"), "--json"});
  EXPECT_EQ(cut.status, 1);
  EXPECT_THAT(check(cut.json(), "model", "fail")["text"].get<std::string>(), HasSubstr("data_corruption"));
  write_text(backbone, sound);

  std::string store = text_of(path("model/tasks.db"));
  const std::size_t numbers = store.find("recast-task");
  ASSERT_NE(numbers, store.npos);
  store[numbers] ^= 1;
  write_text(path("model/tasks.db"), store);
  const Answer flipped = recast({"doctor", path("model")});
  EXPECT_EQ(flipped.status, 1);
  EXPECT_THAT(flipped.out, AllOf(HasSubstr("FAIL  task"), HasSubstr("colours:1"), HasSubstr("what to do:")));
  write_text(path("model/tasks.db"), "not a database at all, but long enough to be looked at");
  EXPECT_THAT(recast({"doctor", path("model")}).out, HasSubstr("FAIL  store"));
  EXPECT_EQ(recast({"doctor", path("nothing")}).status, 1);
}

}  // namespace
}  // namespace recast
