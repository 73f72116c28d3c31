#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <random>

#include "format/expect_error.h"
#include "recast/run/learn_task.h"
#include "recast/run/model_directory.h"
#include "run/toy_model.h"

namespace recast {
namespace {
namespace fs = std::filesystem;
using ::testing::HasSubstr;

/// How many kills each of these tests does; RECAST_KILLS=100 is the long form.
int kills_to_do() {
  const char* chosen = std::getenv("RECAST_KILLS");
  return chosen ? std::atoi(chosen) : 8;
}

/// Calls `act` at the n-th step that the run reports, whatever the stage.
class AtStep final : public Listener {
 public:
  AtStep(std::int64_t n, std::function<void()> act) : left_(n), act_(std::move(act)) {}
  void step(std::int64_t, std::int64_t) override {
    ++seen;
    if (--left_ == 0) act_();
  }
  std::int64_t seen = 0;

 private:
  std::int64_t left_;
  std::function<void()> act_;
};

class Resume : public ::testing::Test {
 protected:
  Resume() {
    at::set_num_threads(1);
    write_toy_images(folder_ / "data", {"blue", "green", "red"}, 10);
    write_toy_model(whole());
    AtStep counter(0, [] {});
    learn_task(request(whole(), &counter));
    steps_ = counter.seen;
  }
  fs::path whole() const { return folder_ / "whole"; }

  LearnRequest request(const fs::path& model, Listener* listener, bool resume = false) const {
    LearnRequest request;
    request.directory = model;
    request.data = folder_ / "data";
    request.task = "colours";
    request.epochs = 3;
    request.batch_size = 8;
    request.listener = listener;
    request.resume = resume;
    return request;
  }

  /// Another process that learns, or goes on, until it ends or `act` at step `n` ends it; its wait status.
  int sitting(const fs::path& model, std::int64_t n, std::function<void()> act) const {
    const pid_t process = ::fork();
    if (process == 0) {
      try {
        AtStep listener(n, std::move(act));
        learn_task(request(model, &listener, true));
        ::_exit(0);
      } catch (const std::exception& error) {
        fmt::print(stderr, "{}\n", error.what());
        ::_exit(1);
      }
    }
    int status = 0;
    ::waitpid(process, &status, 0);
    return status;
  }

  /// The task of a finished run, as bytes, without what tells one run from another.
  static std::string numbers_of(const fs::path& model) {
    TaskRecord record = ModelDirectory::open(model, true).record("colours");
    record.metrics = record.recipe = record.data = nullptr;
    record.created_utc.clear();
    return encode_task(record);
  }
  static std::string metrics_of(const fs::path& model) {
    return read_file(model / "runs" / "colours" / "v1" / "metrics.csv", 1 << 20);
  }
  void expect_same_as_whole(const fs::path& model) const {
    EXPECT_EQ(metrics_of(model), metrics_of(whole()));
    EXPECT_EQ(numbers_of(model), numbers_of(whole()));
    const auto results = nlohmann::json::parse(read_file(model / "runs" / "colours" / "v1" / "results.json", 1 << 20));
    EXPECT_EQ(results["version"], 1);
    EXPECT_EQ(ModelDirectory::open(model, true).store().log("colours").size(), 1u);
    for (const std::string& path : paths_below(model / "runs")) EXPECT_EQ(path.find(".tmp"), path.npos) << path;
  }

  TemporaryFolder folder_;
  std::int64_t steps_ = 0;
};

TEST_F(Resume, AfterKillsAtRandomStepsLeavesTheSameBytes) {
  std::mt19937 random(11);
  int killed = 0;
  for (int trial = 0; killed < kills_to_do(); ++trial) {
    const fs::path model = folder_ / fmt::format("killed-{}", trial);
    write_toy_model(model);
    int status = -1;
    // Up to three sittings are killed, each at a step of its own; the last one runs to the end.
    for (int sitting_number = 0; status != 0; ++sitting_number) {
      const std::int64_t last = sitting_number < 3 ? std::uniform_int_distribution<std::int64_t>(1, steps_)(random) : 0;
      status = sitting(model, last, [] { ::kill(::getpid(), SIGKILL); });
      ASSERT_TRUE(status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)) << status;
      killed += status != 0;
    }
    expect_same_as_whole(model);
    if (HasFailure()) FAIL() << "trial " << trial;
    fs::remove_all(model);
  }
}

TEST_F(Resume, AfterKillsInsideTheWritingOfACheckpointLeavesTheSameBytes) {
  std::mt19937 random(12);
  const auto bytes = fs::file_size(whole() / "runs" / "colours" / "v1" / "checkpoints" / "last.safetensors");
  int killed = 0;
  for (int trial = 0; killed < kills_to_do(); ++trial) {
    const fs::path model = folder_ / fmt::format("cut-{}", trial);
    write_toy_model(model);
    const std::int64_t step = std::uniform_int_distribution<std::int64_t>(1, steps_)(random);
    const rlim_t limit = std::uniform_int_distribution<rlim_t>(1, bytes - 1)(random);
    // From this step on, the kernel ends the process at the first byte of any file beyond the limit.
    const int status = sitting(model, step, [limit] {
      const rlimit most{limit, limit};
      ::setrlimit(RLIMIT_FSIZE, &most);
    });
    ASSERT_TRUE(status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGXFSZ)) << status;
    killed += status != 0;
    ASSERT_EQ(sitting(model, 0, [] {}), 0);
    expect_same_as_whole(model);
    if (HasFailure()) FAIL() << "trial " << trial << ", step " << step << ", limit " << limit;
    fs::remove_all(model);
  }
}

TEST_F(Resume, GoesOnFromThePreviousCheckpointWhereTheNewestIsDamaged) {
  const fs::path model = folder_ / "damaged";
  write_toy_model(model);
  // The last step of all is a test batch: both checkpoints are there by then.
  ASSERT_NE(sitting(model, steps_, [] { ::kill(::getpid(), SIGKILL); }), 0);
  const fs::path newest = model / "runs" / "colours" / "v1" / "checkpoints" / "last.safetensors";
  std::string bytes = read_file(newest, 1 << 24);
  bytes[bytes.size() - 5] ^= 1;
  write_text(newest, bytes);
  ASSERT_EQ(sitting(model, 0, [] {}), 0);
  expect_same_as_whole(model);
  EXPECT_THAT(read_file(model / "runs" / "colours" / "v1" / "run.log", 1 << 20),
              HasSubstr("trying the checkpoint before it"));
}

TEST_F(Resume, SaysSoWhereNoCheckpointIsWhole) {
  const fs::path model = folder_ / "damaged";
  write_toy_model(model);
  ASSERT_NE(sitting(model, steps_, [] { ::kill(::getpid(), SIGKILL); }), 0);
  const fs::path folder = model / "runs" / "colours" / "v1" / "checkpoints";
  for (const char* name : {"last.safetensors", "previous.safetensors"}) {
    const std::string bytes = read_file(folder / name, 1 << 24);
    write_text(folder / name, bytes.substr(0, bytes.size() / 2));
  }
  EXPECT_THAT(error_of(Code::kDataCorruption, [&] { learn_task(request(model, nullptr, true)); }),
              HasSubstr("--force instead of --resume starts afresh"));
}

TEST_F(Resume, FinishesARunThatWasKilledAfterItsTaskWasStored) {
  const fs::path run = whole() / "runs" / "colours" / "v1";
  const std::string metrics = metrics_of(whole());
  const auto before = nlohmann::json::parse(read_file(run / "results.json", 1 << 20));
  fs::remove(run / "results.json");
  const LearnReport report = learn_task(request(whole(), nullptr, true));
  EXPECT_TRUE(report.finished_before);
  EXPECT_EQ(report.results, before);
  EXPECT_EQ(nlohmann::json::parse(read_file(run / "results.json", 1 << 20)), before);
  EXPECT_EQ(metrics_of(whole()), metrics);
}

}  // namespace
}  // namespace recast
