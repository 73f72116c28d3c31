// What `learn` and `stream` with --tensorboard --mlflow leave, read back by TensorBoard's and MLflow's own readers.
#include "../../src/run/journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <sstream>

#include "format/expect_error.h"
#include "format/python_tool.h"
#include "recast/format/files.h"
#include "recast/run/learn_task.h"
#include "recast/run/stream_task.h"
#include "run/toy_model.h"

namespace recast {
namespace {
namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

class AtEpoch final : public Listener {
 public:
  AtEpoch(std::int64_t n, std::function<void()> act) : left_(n), act_(std::move(act)) {}
  void epoch(const EpochMetrics&) override {
    if (--left_ == 0) act_();
  }
  void warning(const std::string& text) override { warnings.push_back(text); }
  std::vector<std::string> warnings;

 private:
  std::int64_t left_;
  std::function<void()> act_;
};

class AtNote final : public Listener {
 public:
  AtNote(std::string begin, std::function<void()> act) : begin_(std::move(begin)), act_(std::move(act)) {}
  void note(const std::string& text) override {
    if (text.starts_with(begin_)) act_();
  }

 private:
  std::string begin_;
  std::function<void()> act_;
};

class Journals : public ::testing::Test {
 protected:
  Journals() {
    write_toy_model(folder_ / "model");
    write_toy_images(folder_ / "data", {"blue", "green", "red"}, 10);
  }

  LearnRequest request() const {
    LearnRequest request;
    request.directory = folder_ / "model";
    request.data = folder_ / "data";
    request.task = "colours";
    request.epochs = 4;
    request.batch_size = 8;
    request.tensorboard = true;
    request.mlflow = "file:" + (folder_ / "ml runs").string();
    return request;
  }
  fs::path store() const { return folder_ / "ml runs"; }
  fs::path run() const { return folder_ / "model" / "runs" / "colours" / "v1"; }
  fs::path event_file() const { return run() / "events.out.tfevents.recast"; }

  static nlohmann::json read(const std::string& kind, const fs::path& place) {
    const Outcome outcome =
        run_program({python_path(), RECAST_SOURCE_DIR "/tests/run/journal_check.py", kind, place.string()});
    EXPECT_EQ(outcome.status, 0) << outcome.text;
    const std::size_t begin = outcome.text.rfind("\n{");  // after what the libraries may warn of
    return nlohmann::json::parse(begin == std::string::npos ? outcome.text : outcome.text.substr(begin));
  }

  /// {name: [[epoch, value]]} of the epochs in results.json.
  static nlohmann::json epochs_of(const nlohmann::json& results) {
    nlohmann::json figures;
    for (const EpochMetrics& metrics : history_of(results))
      for (const Figure& figure : epoch_figures(metrics)) figures[figure.name].push_back({metrics.epoch, figure.value});
    return figures;
  }

  /// Every number that `read` has of these names, as floats; and as many.
  static void expect_figures(const nlohmann::json& wanted, const nlohmann::json& read) {
    for (const auto& [name, points] : wanted.items()) {
      ASSERT_TRUE(read.contains(name)) << name;
      ASSERT_EQ(read[name].size(), points.size()) << name;
      for (std::size_t i = 0; i < points.size(); ++i) {
        EXPECT_EQ(read[name][i][0], points[i][0]) << name;
        EXPECT_FLOAT_EQ(read[name][i][1].get<float>(), points[i][1].get<float>()) << name;
      }
    }
  }

  void expect_all(const nlohmann::json& results) const {
    const nlohmann::json epochs = epochs_of(results);
    const nlohmann::json events = read("tensorboard", run()), store_seen = read("mlflow", store());
    ASSERT_EQ(store_seen["runs"].size(), 1u);
    for (const nlohmann::json& figures : {events["figures"], store_seen["runs"][0]["figures"]}) {
      expect_figures(epochs, figures);
      EXPECT_FLOAT_EQ(figures["test/top1"][0][1].get<float>(), results["test"]["top1"].get<float>());
      EXPECT_EQ(figures["test/loss"].size(), 1u);
      EXPECT_EQ(figures["validation/top1"][0][0], results["best_epoch"]);
      EXPECT_EQ(figures.size(), epochs.size() + final_figures(results).size());
    }
    EXPECT_EQ(store_seen["runs"][0]["status"], "FINISHED");
  }

  TemporaryFolder folder_;
};

TEST_F(Journals, HoldWhatMetricsAndResultsHold) {
  RECAST_NEED_PYTHON("tensorboard, mlflow");
  const nlohmann::json results = learn_task(request()).results;
  expect_all(results);
  EXPECT_THAT(read("tensorboard", run())["texts"]["config/text_summary"].get<std::string>(),
              AllOf(HasSubstr("    task: colours\n"), HasSubstr(results["run_id"].get<std::string>())));
  const nlohmann::json seen = read("mlflow", store());
  EXPECT_EQ(seen["experiments"], nlohmann::json({"Default", "colours"}));
  const nlohmann::json& run = seen["runs"][0];
  EXPECT_EQ(run["experiment"], "colours");
  EXPECT_EQ(run["name"], "colours v1");
  EXPECT_TRUE(run["ended"].get<bool>());
  EXPECT_EQ(run["params"]["batch-size"], "8");
  EXPECT_EQ(run["params"]["mlflow"], "true");
  EXPECT_EQ(run["tags"]["version.torch"], results["versions"]["torch"]);
  EXPECT_EQ(run["tags"]["recast.run_id"], results["run_id"]);
  EXPECT_EQ(run["tags"]["recast.task_version"], "1");
  EXPECT_EQ(run["artifacts"], nlohmann::json({"config.yaml", "metrics.csv", "results.json"}));
}

TEST_F(Journals, HoldEveryEpochOnceAfterARunWasStoppedAndDamaged) {
  RECAST_NEED_PYTHON("tensorboard, mlflow");
  std::atomic<bool> stop{false};
  AtEpoch stopper(3, [&] { stop = true; });
  LearnRequest interrupted = request();
  interrupted.stop = &stop;
  interrupted.listener = &stopper;
  error_of(Code::kCancelled, [&] { learn_task(interrupted); });
  EXPECT_EQ(read("mlflow", store())["runs"][0]["status"], "KILLED");
  // As if an epoch had been told of whose checkpoint was never written, and the process had died in the next one.
  const std::string events = read_file(event_file(), 1 << 20);
  write_file_atomically(event_file(), events + events.substr(0, 60) + events.substr(0, 9));
  for (const auto& entry : fs::recursive_directory_iterator(store()))
    if (entry.path().filename() == "train_loss") std::ofstream(entry.path(), std::ios::app) << "1700000000000 9.5 99\n";
  stop = false;
  LearnRequest again = request();
  again.resume = true;
  expect_all(learn_task(again).results);
}

TEST_F(Journals, AreCompletedWhereTheRunWasKilledAfterItsCommit) {
  RECAST_NEED_PYTHON("tensorboard, mlflow");
  const nlohmann::json results = learn_task(request()).results;
  fs::remove(run() / "results.json");
  fs::remove(event_file());
  LearnRequest again = request();
  again.resume = true;
  EXPECT_TRUE(learn_task(again).finished_before);
  expect_all(results);
}

TEST_F(Journals, HoldEveryStepOfAStreamOnceAfterItWasStopped) {
  RECAST_NEED_PYTHON("tensorboard, mlflow");
  StreamRequest stream;
  static_cast<LearnRequest&>(stream) = request();
  stream.plugs = {"ncm"};
  stream.stream.increment = 1;
  std::atomic<bool> stop{false};
  AtNote stopper("step 2 of 3: top1", [&] { stop = true; });
  StreamRequest interrupted = stream;
  interrupted.stop = &stop;
  interrupted.listener = &stopper;
  error_of(Code::kCancelled, [&] { stream_task(interrupted); });
  EXPECT_EQ(read("mlflow", store())["runs"][0]["status"], "KILLED");
  stream.resume = true;
  const nlohmann::json results = stream_task(stream).results;
  ASSERT_EQ(results["steps"].size(), 3u);
  const nlohmann::json events = read("tensorboard", run().string() + "-stream"), seen = read("mlflow", store());
  ASSERT_EQ(seen["runs"].size(), 1u);
  EXPECT_EQ(seen["runs"][0]["status"], "FINISHED");
  EXPECT_EQ(seen["runs"][0]["tags"]["recast.task_version"], "3");
  nlohmann::json wanted;
  for (const nlohmann::json& step : results["steps"])
    for (const char* figure : {"top1", "validation_top1", "classes", "test_rows", "alone"})
      if (step[figure].is_number())
        wanted[fmt::format("stream/{}", figure)].push_back({step["step"], step[figure].get<double>()});
  for (const char* figure : {"average", "last", "forgetting"})
    wanted[fmt::format("stream/{}", figure)].push_back({2, results[figure].get<double>()});
  ASSERT_EQ(wanted["stream/top1"].size(), 3u);
  expect_figures(wanted, events["figures"]);
  expect_figures(wanted, seen["runs"][0]["figures"]);
}

TEST_F(Journals, ThatFailDoNotEndTheRun) {
  AtEpoch breaker(1, [&] {
    fs::remove_all(store());
    write_text(store(), "a file");
  });
  LearnRequest broken = request();
  broken.tensorboard = false;
  broken.listener = &breaker;
  EXPECT_EQ(learn_task(broken).results["version"], 1);
  ASSERT_FALSE(breaker.warnings.empty());
  EXPECT_THAT(breaker.warnings.back(), AllOf(HasSubstr("[mlflow]"), HasSubstr("told no more")));
}

TEST_F(Journals, ThatCannotBeginEndItBeforeAnythingIsLearned) {
  write_text(store(), "a file");
  EXPECT_THAT(error_of(Code::kUnavailable, [&] { learn_task(request()); }), HasSubstr("ml runs"));
  EXPECT_FALSE(fs::exists(run()));
}

TEST_F(Journals, TakeAnExperimentThatIsThereAndRefuseADeletedOne) {
  const auto experiment = [&](const fs::path& folder, const char* state) {
    write_text(folder / "meta.yaml", fmt::format("artifact_location: x\nexperiment_id: '7'\nlifecycle_stage: {}\n"
                                                 "name: pets\nworkspace: null\n",
                                                 state));
  };
  experiment(store() / "7", "active");
  write_text(store() / "8" / "meta.yaml", "not: [yaml");
  LearnRequest into = request();
  into.mlflow_experiment = "pets";
  learn_task(into);
  std::size_t folders = 0;
  for (const auto& entry : fs::directory_iterator(store() / "7")) folders += entry.is_directory();
  EXPECT_EQ(folders, 1u);
  fs::remove_all(store());
  experiment(store() / ".trash" / "7", "deleted");
  into.force = true;
  EXPECT_THAT(error_of(Code::kAlreadyExists, [&] { learn_task(into); }), HasSubstr("MLFLOW_EXPERIMENT_NAME"));
}

TEST(MlflowFolder, IsAPathOrAUriOfOne) {
  EXPECT_EQ(mlflow_folder(""), fs::current_path() / "mlruns");
  EXPECT_EQ(mlflow_folder("logs"), fs::current_path() / "logs");
  EXPECT_EQ(mlflow_folder("/logs/x"), "/logs/x");
  EXPECT_EQ(mlflow_folder("file:/logs/a%20b"), "/logs/a b");
  EXPECT_EQ(mlflow_folder("file:///logs/100%"), "/logs/100%");
  EXPECT_EQ(mlflow_folder("file://localhost/logs"), "/logs");
  EXPECT_EQ(mlflow_folder("file:logs"), fs::current_path() / "logs");
}

TEST(MlflowFolder, RefusesServersAndDatabasesByNameOnly) {
  for (const auto& [uri, kind] : std::map<std::string, std::string>{{"http://anna:secret@logs:5000", "'http'"},
                                                                    {"postgresql://anna:secret@db/x", "'postgresql'"},
                                                                    {"sqlite:///secret.db", "'sqlite'"},
                                                                    {"databricks", "'databricks'"}})
    EXPECT_THAT(error_of(Code::kUnsupported, [&, uri = uri] { mlflow_folder(uri); }),
                AllOf(HasSubstr(kind), HasSubstr("file:FOLDER"), Not(HasSubstr("secret"))));
  EXPECT_THAT(error_of(Code::kUnsupported, [] { mlflow_folder("file://server/share"); }), HasSubstr("'server'"));
  EXPECT_THAT(error_of(Code::kInvalidArgument, [] { mlflow_folder("file:"); }), HasSubstr("no folder"));
}

}  // namespace
}  // namespace recast
