// `recast learn` and `recast lab` by several processes, under mpirun and under the variables of torchrun: the same
// results as one process, and an end in bounded time where one of them is lost.
#include <signal.h>

#include <fstream>
#include <thread>

#include "comm/free_port.h"
#include "comm/mpirun.h"
#include "recast/run/model_directory.h"
#include "text/toy_model_test.h"

namespace recast {
namespace {
namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class RanksCommand : public ToyModelTest {
 protected:
  using Words = std::vector<std::string>;

  Words learn(const std::string& model, const Words& more = {}, int epochs = 3) const {
    Words words = {"learn",        path(model),  "--task",    "colours",
                   "--data",       path("data"), "--plug",    "recast",
                   "--amp",        "fp32",       "--seed",    "7",
                   "--lr",         "0.001",      "--threads", "1",
                   "--batch-size", "5",          "--epochs",  std::to_string(epochs)};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  /// Long enough to be met in the middle, and short enough to be finished afterwards.
  Words learn_long(const std::string& model) const { return learn(model, {"--augmentation", "none"}, 150); }
  /// Never to be finished.
  Words learn_forever(const std::string& model, const Words& more = {}) const {
    Words words = learn(model, {"--augmentation", "none"}, 1'000'000);
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  void new_model(const std::string& name) const { write_toy_model(path(name)); }

  /// What torchrun sets for a rank.
  RunningProgram::Environment rank(int rank, int size = 2) const {
    return {{"RANK", std::to_string(rank)},
            {"WORLD_SIZE", std::to_string(size)},
            {"MASTER_ADDR", "127.0.0.1"},
            {"MASTER_PORT", std::to_string(port_)}};
  }
  /// One that prints into a folder of its own.
  RunningRecast start(int of, const Words& words) const {
    fs::create_directories(output_.path() / std::to_string(of));
    return RunningRecast(output_.path() / std::to_string(of), words, rank(of));
  }
  std::vector<Answer> launch(const Words& words) const { return launch(words, words); }
  std::vector<Answer> launch(const Words& first, const Words& second) const {
    const RunningRecast one = start(0, first), other = start(1, second);
    return {one.wait(), other.wait()};
  }
  Answer under_mpirun(const Words& words) const {
    Words all = mpirun(2);
    all.push_back(RECAST_PROGRAM);
    all.insert(all.end(), words.begin(), words.end());
    return RunningProgram(output_.path(), all).wait();
  }

  Numbers stored(const std::string& model) const {
    const ModelDirectory directory = ModelDirectory::open(path(model), true);
    Numbers numbers = directory.store().load("colours").value().numbers;
    if (const auto shared = directory.store().shared("ncm")) numbers = *shared;
    return numbers;
  }
  double difference(const std::string& one, const std::string& other) const {
    const Numbers a = stored(one), b = stored(other);
    double widest = 0;
    int tensors = 0;
    for (const auto& [plug, scopes] : a.plugs())
      for (const auto& [scope, state] : scopes)
        for (const auto& [name, number] : state)
          if (const auto* tensor = std::get_if<at::Tensor>(&number)) {
            widest = std::max(widest, (*tensor - b.at(plug, scope).tensor(name)).abs().max().item<double>());
            ++tensors;
          }
    EXPECT_GT(tensors, 0);
    return widest;
  }
  nlohmann::json results(const std::string& model) const {
    return nlohmann::json::parse(text_of(fs::path(path(model)) / "runs/colours/v1/results.json"));
  }

  /// Waits until the run writes this into its log.
  void await(const RunningRecast& running, const std::string& model, const std::string& text) const {
    const fs::path log = fs::path(path(model)) / "runs/colours/v1/run.log";
    while (!running.over() && text_of(log).find(text) == std::string::npos)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    ASSERT_FALSE(running.over()) << running.err_so_far();
  }

  const std::uint16_t port_ = free_port();
};

TEST_F(RanksCommand, TwoComeToTheNumbersOfOne) {
  ASSERT_EQ(recast(learn("model")).status, 0);
  new_model("two");
  const std::vector<Answer> answers = launch(learn("two"));
  for (const Answer& answer : answers) ASSERT_EQ(answer.status, 0) << answer.err;
  EXPECT_LE(difference("model", "two"), 1e-6);
  EXPECT_THAT(answers[0].out, HasSubstr("task colours version 1"));
  EXPECT_THAT(answers[1].out + answers[1].err, IsEmpty()) << "rank 0 speaks for all";
  const std::string log = text_of(fs::path(path("two")) / "runs/colours/v1/run.log");
  EXPECT_THAT(log, AllOf(HasSubstr("2 ranks over TCP; what they exchange is neither encrypted nor authenticated"),
                         ContainsRegex("a step sends [0-9]+ bytes from each rank to rank 0, and as many back")));
  const nlohmann::json one = results("model"), two = results("two");
  EXPECT_EQ(two["ranks"]["count"], 2);
  EXPECT_LT(two["ranks"]["step_bytes"], 4 * (two["coefficients"].get<int>() + two["head_numbers"].get<int>() + 100))
      << "gradients of coefficients and head, and little else";
  EXPECT_FALSE(one.contains("ranks"));
  for (const char* part : {"validation", "test"}) EXPECT_EQ(one[part]["top1"], two[part]["top1"]) << part;
}

TEST_F(RanksCommand, UnderMpirunToo) {
  RECAST_NEED_MPIRUN();
  ASSERT_EQ(recast(learn("model")).status, 0);
  new_model("two");
  const Answer answer = under_mpirun(learn("two"));
  ASSERT_EQ(answer.status, 0) << answer.err;
  EXPECT_LE(difference("model", "two"), 1e-6);
  EXPECT_THAT(results("two")["ranks"]["carrier"].get<std::string>(), HasSubstr("Open MPI"));
}

TEST_F(RanksCommand, ClassMeansAreThoseOfOneToTheLastBit) {
  const auto words = [&](const std::string& model) {
    return Words{"learn",    path(model), "--task", "colours", "--data",    path("data"),
                 "--recipe", "steps",     "--plug", "ncm",     "--threads", "1"};
  };
  ASSERT_EQ(recast(words("model")).status, 0);
  new_model("two");
  for (const Answer& answer : launch(words("two"))) ASSERT_EQ(answer.status, 0) << answer.err;
  EXPECT_EQ(difference("model", "two"), 0);
}

TEST_F(RanksCommand, RefuseToLearnDifferentThings) {
  Words other = learn("model");
  *(std::find(other.begin(), other.end(), "--seed") + 1) = "8";
  for (const Answer& answer : launch(learn("model"), other)) {
    EXPECT_EQ(answer.status, 3);
    EXPECT_THAT(answer.err, HasSubstr("rank 1 and rank 0 differ in: seed"));
  }
  EXPECT_FALSE(fs::exists(path("model") + "/runs/colours"));
}

TEST_F(RanksCommand, TestImagesMustBeTheSameToo) {
  Words own = learn("model"), other = own;
  for (Words* words : {&own, &other}) {
    const std::string data = path(words == &own ? "own" : "other");
    write_toy_images(data + "/train", {"blue", "green", "red"}, 12);
    write_toy_images(data + "/test", {"blue", "green", "red"}, 2, 6);
    *(std::find(words->begin(), words->end(), "--data") + 1) = data;
  }
  std::ofstream(path("other/test/red/1.png"), std::ios::app) << "another byte";
  for (const Answer& answer : launch(own, other)) {
    EXPECT_EQ(answer.status, 3);
    EXPECT_THAT(answer.err, HasSubstr("rank 1 and rank 0 differ in: test images"));
  }
}

TEST_F(RanksCommand, AnotherCommandIsNamedByRankZeroWhereItIsNotShared) {
  const Words methods = {"methods"};
  auto variables = rank(0);
  EXPECT_THAT(recast(methods, variables).err, HasSubstr("each of the 2 processes that were started does all of this"));
  variables["RANK"] = "1";
  EXPECT_THAT(recast(methods, variables).err, IsEmpty());
  variables = {{"OMPI_COMM_WORLD_SIZE", "3"}, {"OMPI_COMM_WORLD_RANK", "0"}};
  EXPECT_THAT(recast(methods, variables).err, HasSubstr("each of the 3 processes"));
}

TEST_F(RanksCommand, ARankThatCannotGoOnEndsAllWithItsReason) {
  Words other = learn("model");
  *(std::find(other.begin(), other.end(), "--data") + 1) = path("nowhere");
  const std::vector<Answer> answers = launch(learn("model"), other);
  for (const Answer& answer : answers) EXPECT_EQ(answer.status, 4) << answer.err;
  EXPECT_THAT(answers[0].err, AllOf(HasSubstr("rank 1 ended:"), HasSubstr("nowhere")));
}

TEST_F(RanksCommand, RefusesVariablesThatCannotBeRight) {
  auto variables = rank(2);
  const Answer answer = recast(learn("model"), variables);
  EXPECT_EQ(answer.status, 2);
  EXPECT_THAT(answer.err, HasSubstr("RANK must be a whole number of 0 to 1, got '2'"));
  EXPECT_EQ(recast(learn("model", {"--ranks", "alone"}), variables).status, 0);
}

TEST_F(RanksCommand, SaysWhatIsMissingWithoutOpenMpi) {
  write_text(path("libraries/libmpi.so.40"), "");
  const Answer answer = recast(learn("model"), {{"OMPI_COMM_WORLD_SIZE", "2"}, {"LD_LIBRARY_PATH", path("libraries")}});
  EXPECT_EQ(answer.status, 3);
  EXPECT_THAT(answer.err, AllOf(HasSubstr("libmpi.so.40"), HasSubstr("libopenmpi3")));
}

TEST_F(RanksCommand, AKilledRankEndsTheRunWhichOneProcessCanFinish) {
  Words words = learn_long("model");
  const RunningRecast first = start(0, words), second = start(1, words);
  await(first, "model", "train epoch 2:");
  second.signal(SIGKILL);
  second.wait();
  const Answer ended = first.wait();
  EXPECT_EQ(ended.status, 1);
  EXPECT_THAT(ended.err, AllOf(HasSubstr("[ranks] rank 1 is gone: its process ended"), HasSubstr("--resume")));
  words.push_back("--resume");
  const Answer resumed = recast(words);
  EXPECT_EQ(resumed.status, 0) << resumed.err;
  EXPECT_THAT(resumed.err, HasSubstr("resumed at epoch"));
  new_model("whole");
  words.pop_back();
  words[1] = path("whole");
  ASSERT_EQ(recast(words).status, 0);
  EXPECT_LE(difference("whole", "model"), 1e-4) << "150 epochs of rounding";
  EXPECT_EQ(results("whole")["test"]["top1"], results("model")["test"]["top1"]);
}

TEST_F(RanksCommand, AStoppedRankEndsTheRun) {
  const Words words = learn_forever("model", {"--rank-timeout", "8"});
  const RunningRecast first = start(0, words), second = start(1, words);
  await(first, "model", "train epoch 2:");
  second.signal(SIGSTOP);
  const Answer ended = first.wait();
  EXPECT_EQ(ended.status, 1);
  EXPECT_THAT(ended.err, AllOf(HasSubstr("rank 1 has not been heard for 8 s"), HasSubstr("--resume")));
  second.signal(SIGCONT);
  const Answer late = second.wait();
  EXPECT_EQ(late.status, 1);
  EXPECT_THAT(late.err, HasSubstr("rank"));
  EXPECT_TRUE(fs::exists(path("model") + "/runs/colours/v1/checkpoints/last.safetensors"));
}

TEST_F(RanksCommand, WithoutRankZeroTheOthersEnd) {
  const Words words = learn_forever("model");
  const RunningRecast first = start(0, words), second = start(1, words);
  await(first, "model", "train epoch 2:");
  first.signal(SIGKILL);
  first.wait();
  const Answer ended = second.wait();
  EXPECT_EQ(ended.status, 1);
  EXPECT_THAT(ended.err, HasSubstr("[ranks] rank 0 is gone"));
}

TEST_F(RanksCommand, CtrlCStopsAllAfterTheSameStep) {
  const Words words = learn_forever("model");
  const RunningRecast first = start(0, words), second = start(1, words);
  await(first, "model", "train epoch 2:");
  second.interrupt();  // one is enough
  for (const RunningRecast* running : {&first, &second}) {
    const Answer answer = running->wait();
    EXPECT_EQ(answer.status, 130) << answer.err;
  }
  EXPECT_THAT(first.err_so_far(), HasSubstr("--resume goes on from"));
}

TEST_F(RanksCommand, ARankKilledUnderMpirunLeavesARunToGoOnWith) {
  RECAST_NEED_MPIRUN();
  Words words = learn_long("model");
  // Rank 1 ends itself once rank 0 has learned for a while.
  const std::string log = path("model") + "/runs/colours/v1/run.log";
  const std::string line = "if [ $OMPI_COMM_WORLD_RANK = 1 ]; then (until grep -qs 'train epoch 2:' '" + log +
                           "'; do sleep 0.05; done; kill -KILL $$) & fi; exec \"$0\" \"$@\"";
  Words all = mpirun(2);
  all.insert(all.end(), {"bash", "-c", line, RECAST_PROGRAM});
  all.insert(all.end(), words.begin(), words.end());
  const Answer ended = RunningProgram(output_.path(), all).wait();
  EXPECT_NE(ended.status, 0);
  EXPECT_THAT(ended.out + ended.err, HasSubstr("rank 1")) << "mpirun says it, and ends the others";
  words.push_back("--resume");
  const Answer resumed = recast(words);
  EXPECT_EQ(resumed.status, 0) << resumed.err;
  EXPECT_THAT(resumed.err, HasSubstr("resumed at epoch"));
}

TEST_F(RanksCommand, ALabsCellsAreSharedAndCollected) {
  write_text(path("lab.yaml"), "model: " + path("model") + "\ntasks: {colours: {data: " + path("data") +
                                   "}}\nrecipes:\n"
                                   "  head: {plug: linear-probe, epochs: 0}\n"
                                   "  fine: {plug: \"recast:grain=part\", epochs: 2, batch-size: 4}\n"
                                   "seeds: [5, 6]\nbaseline: head\nout: " +
                                   path("out") + "\n");
  for (const Answer& answer : launch({"lab", "run", path("lab.yaml"), "--threads", "1"}))
    EXPECT_EQ(answer.status, 0) << answer.err;
  const auto document = nlohmann::json::parse(text_of(path("out") + "/results.json"));
  EXPECT_EQ(document["counts"]["done"], 4);
  const std::string first = text_of(output_.path() / "0/stderr"), second = text_of(output_.path() / "1/stderr");
  int told = 0;
  for (const char* cell : {"colours/head/5", "colours/head/6", "colours/fine/5", "colours/fine/6"}) {
    const std::string done = std::string(cell) + ": test top1";
    told += (first.find(done) != first.npos) + (second.find(done) != second.npos);
  }
  EXPECT_EQ(told, 4) << "each was done once:\n" << first << second;
}

TEST_F(RanksCommand, RefuseDifferentLabs) {
  write_text(path("lab.yaml"),
             "model: " + path("model") + "\ntasks: {colours: {data: " + path("data") +
                 "}}\nrecipes:\n  head: {plug: linear-probe, epochs: 0}\nseeds: [5, 6]\nout: " + path("out") + "\n");
  const Words whole = {"lab", "run", path("lab.yaml"), "--threads", "1"};
  Words part = whole;
  part.insert(part.end(), {"--cells", "colours/head/6"});
  for (const Answer& answer : launch(whole, part)) {
    EXPECT_EQ(answer.status, 3);
    EXPECT_THAT(answer.err, HasSubstr("rank 1 and rank 0 differ in: --cells"));
  }
  EXPECT_FALSE(fs::exists(path("out")));
}

}  // namespace
}  // namespace recast
