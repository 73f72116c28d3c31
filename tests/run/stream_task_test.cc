// Class-incremental streams as a command: what they store and write, how they go on, what they refuse; and heads that
// several tasks of `recast learn` share.
#include "recast/run/stream_task.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "format/expect_error.h"
#include "recast/run/model_directory.h"
#include "recast/run/settings.h"
#include "run/toy_model.h"

namespace recast {
namespace {
namespace fs = std::filesystem;

const std::vector<std::string> kClasses = {"blue", "green", "lilac", "pink", "red", "white"};

/// Sets a flag when a stage of this name begins for the n-th time.
class StopAtStage final : public Listener {
 public:
  StopAtStage(std::string name, int times) : name_(std::move(name)), left_(times) {}
  void stage(const std::string& name, std::int64_t) override {
    if (name.find(name_) != name.npos && --left_ == 0) stop = true;
  }
  std::atomic<bool> stop = false;

 private:
  std::string name_;
  int left_;
};

class StreamTaskTest : public testing::Test {
 protected:
  StreamTaskTest() {
    write_toy_model(folder_ / "model");
    write_toy_images(folder_ / "data", kClasses, 12);
  }
  StreamRequest request(const std::string& plug = "g-acil:width=64", const std::string& model = "model") const {
    StreamRequest request;
    request.directory = folder_ / model;
    request.data = folder_ / "data";
    request.task = "things";
    request.plugs = {plug};
    request.stream.increment = 2;
    return request;
  }
  ModelDirectory open(const std::string& model = "model") const { return ModelDirectory::open(folder_ / model, true); }
  std::string text_of(const fs::path& file) const { return read_file(file, 1 << 24); }

  TemporaryFolder folder_;
};

/// Without what differs from run to run.
nlohmann::json lasting(nlohmann::json results) {
  for (const char* key : {"seconds", "finished_utc", "run", "run_id", "features", "command", "machine"})
    results.erase(key);
  for (nlohmann::json& step : results["steps"]) step.erase("seconds");
  return results;
}

TEST_F(StreamTaskTest, LearnsStepByStepStoresEachAndWritesItsFolder) {
  const nlohmann::json results = stream_task(request()).results;
  ASSERT_EQ(results["steps"].size(), 3u);
  EXPECT_EQ(results["schema"], kStreamSchema);
  EXPECT_EQ(results["matrix"][2].size(), 3u);
  EXPECT_EQ(results["classes"], 6);
  EXPECT_EQ(results["images"]["test"], results["steps"][2]["test_rows"]);
  EXPECT_EQ(results["images"]["train"].get<int>() + results["images"]["validation"].get<int>() +
                results["images"]["test"].get<int>(),
            6 * 12);
  EXPECT_GT(results["last"], 0.5) << "six colours";
  EXPECT_EQ(results["labels"][0], kClasses[static_cast<std::size_t>(numpy_permutation(1993, 6)[0])]);
  EXPECT_TRUE(results["forward_transfer"].is_number());
  EXPECT_GT(results["shared_bytes"], 0);
  const fs::path run = folder_ / "model/runs/things/v1-stream";
  for (const char* file :
       {"config.yaml", "run.log", "metrics.csv", "accuracy_matrix.csv", "accuracy_matrix.svg", "results.json"})
    EXPECT_TRUE(fs::exists(run / file)) << file;
  EXPECT_EQ(nlohmann::json::parse(text_of(run / "results.json")), results);
  const std::string metrics = text_of(run / "metrics.csv");
  EXPECT_EQ(std::count(metrics.begin(), metrics.end(), '\n'), 4);

  const ModelDirectory directory = open();
  for (std::int64_t version : {1, 2, 3}) {
    const LoadedTask task = directory.load("things:" + std::to_string(version));
    EXPECT_EQ(task.record.labels.size(), static_cast<std::size_t>(2 * version));
    ASSERT_TRUE(task.record.follows);
    EXPECT_EQ(*task.record.follows, (SharedVersion{"things", version}));
    EXPECT_EQ(task.model.forward({{{"features", at::zeros({1, 32})}}, 1}, {}).at("logits").size(1), 2 * version);
    EXPECT_EQ(task.record.metrics["step"]["step"], version - 1);
  }
}

TEST_F(StreamTaskTest, GoesOnFromTheLastStoredStepToTheSameBits) {
  fs::copy(folder_ / "model", folder_ / "other", fs::copy_options::recursive);
  const nlohmann::json whole = stream_task(request()).results;
  StreamRequest cut = request("g-acil:width=64", "other");
  StopAtStage listener(": test", 2);  // while the second step is measured
  cut.listener = &listener;
  cut.stop = &listener.stop;
  const std::string message = error_of(Code::kCancelled, [&] { stream_task(cut); });
  EXPECT_NE(message.find("--resume goes on"), message.npos) << message;
  EXPECT_EQ(open("other").store().log("things").size(), 1u);
  cut.listener = nullptr;
  cut.stop = nullptr;
  error_of(Code::kAlreadyExists, [&] { cut.run_folder = folder_ / "other/runs/things/v1-stream", stream_task(cut); });
  cut.run_folder.clear();
  cut.resume = true;
  const nlohmann::json resumed = stream_task(cut).results;
  EXPECT_EQ(lasting(resumed), lasting(whole));
  for (const char* file : {"metrics.csv", "accuracy_matrix.csv", "accuracy_matrix.svg"})
    EXPECT_EQ(text_of(folder_ / "other/runs/things/v1-stream" / file),
              text_of(folder_ / "model/runs/things/v1-stream" / file));
  const ModelDirectory one = open(), other = open("other");
  EXPECT_TRUE(equal(one.load("things").record.numbers, other.load("things").record.numbers));
  EXPECT_TRUE(stream_task(cut).finished_before);
}

TEST_F(StreamTaskTest, RefusesToGoOnWithOtherSettings) {
  StreamRequest cut = request();
  StopAtStage listener(": test", 2);
  cut.listener = &listener;
  cut.stop = &listener.stop;
  error_of(Code::kCancelled, [&] { stream_task(cut); });
  StreamRequest other = request();
  other.resume = true;
  other.stream.increment = 3;
  EXPECT_NE(error_of(Code::kInvalidArgument, [&] { stream_task(other); }).find("increment"), std::string::npos);
}

TEST_F(StreamTaskTest, KeepsNoVersionOrTheLastOneWhereAsked) {
  StreamRequest none = request("ncm");
  none.keep = "none";
  none.run_folder = folder_ / "run";
  EXPECT_TRUE(stream_task(none).results["steps"][0]["version"].is_null());
  EXPECT_TRUE(open().store().list().empty());
  StreamRequest last = request("ncm");
  last.keep = "last";
  const nlohmann::json results = stream_task(last).results;
  EXPECT_TRUE(results["steps"][0]["version"].is_null());
  EXPECT_EQ(results["steps"][2]["version"], 1);
  EXPECT_EQ(open().load("things").record.labels.size(), 6u);
}

TEST_F(StreamTaskTest, RunsHeadsThatTrainAndNetworksThatMove) {
  StreamRequest probe = request("linear-probe");
  probe.recipe = "steps";
  probe.epochs = 2;
  EXPECT_EQ(stream_task(probe).results["shared_bytes"], 0);
  EXPECT_FALSE(open().load("things").record.follows);
  StreamRequest moving = request("finetune");
  moving.task = "moved";
  moving.epochs = 1;
  moving.recipe = "steps";
  const nlohmann::json results = stream_task(moving).results;
  EXPECT_EQ(results["steps"].size(), 3u);
  EXPECT_TRUE(results["features"].is_null()) << "features that move are not kept";
  EXPECT_EQ(open().load("moved").model.forward({{{"input", at::zeros({1, 3, 16, 16})}}, 1}, {}).at("logits").size(1),
            6);
}

TEST_F(StreamTaskTest, ClassesThatComeBackAreLearnedOrRefusedBeforehand) {
  for (const StreamKind kind : {StreamKind::kMixed, StreamKind::kRecurring}) {
    StreamRequest back = request("ncm");
    back.stream.kind = kind;
    back.keep = "none";
    back.run_folder = folder_ / std::string(name(kind));
    const nlohmann::json results = stream_task(back).results;
    std::int64_t known = 0;
    for (const auto& step : results["steps"]) known += step["rows"]["known"].get<std::int64_t>();
    EXPECT_GT(known, 0);
    StreamRequest once = request("fetril");
    once.stream.kind = kind;
    const auto before = paths_below(folder_.path());
    EXPECT_NE(error_of(Code::kUnsupported, [&] { stream_task(once); }).find("learns each class once"),
              std::string::npos);
    EXPECT_EQ(paths_below(folder_.path()), before);
  }
}

TEST_F(StreamTaskTest, RefusesWhatItCannotBeBeforeItWrites) {
  const auto refused = [&](const auto& change) {
    StreamRequest bad = request();
    change(bad);
    const auto before = paths_below(folder_.path());
    const std::string message = error_of(Code::kInvalidArgument, [&] { stream_task(bad); });
    EXPECT_EQ(paths_below(folder_.path()), before) << message;
    return message;
  };
  EXPECT_NE(refused([](StreamRequest& r) { r.stream.increment = 0; }).find("--increment"), std::string::npos);
  EXPECT_NE(refused([](StreamRequest& r) { r.stream.base = 7; }).find("the data has 6"), std::string::npos);
  EXPECT_NE(refused([](StreamRequest& r) { r.keep = "some"; }).find("--keep"), std::string::npos);
  EXPECT_NE(refused([](StreamRequest& r) { r.unlabelled = "test"; }).find("--unlabelled"), std::string::npos);
  EXPECT_NE(refused([](StreamRequest& r) { r.seeds = {1, 2}; }).find("one --seed"), std::string::npos);
  EXPECT_NE(refused([](StreamRequest& r) { r.task = ""; }).find("--task"), std::string::npos);
}

TEST_F(StreamTaskTest, FeaturesThatStandStillAreInFp32UnlessAskedAndTheSettingsSaySo) {
  const auto format_of = [](const StreamRequest& request) {
    for (const auto& [name, values] : parse_settings(stream_settings_yaml(request), "test"))
      if (name == "amp") return values.at(0);
    return std::string("absent");
  };
  StreamRequest asked = request();
  EXPECT_EQ(format_of(asked), "fp32") << "whatever the recipe and the processor";
  asked.bf16 = true;
  EXPECT_EQ(format_of(asked), "bf16");
}

TEST_F(StreamTaskTest, TheSettingsReadBackAsThemselves) {
  const Settings settings = parse_settings(stream_settings_yaml(request()), "test");
  const auto value = [&](const std::string& key) {
    for (const auto& [name, values] : settings)
      if (name == key) return values.at(0);
    return std::string("absent");
  };
  EXPECT_EQ(value("increment"), "2");
  EXPECT_EQ(value("class-seed"), "1993");
  EXPECT_EQ(value("stream"), "disjoint");
  EXPECT_EQ(value("keep"), "all");
}

LearnRequest learn_request(const fs::path& model, const fs::path& data, const std::string& task) {
  LearnRequest request;
  request.directory = model;
  request.data = data;
  request.task = task;
  request.plugs = {"g-acil:width=64"};
  return request;
}

TEST_F(StreamTaskTest, TasksOfLearnShareOneHeadWhoseClassesAreMatchedByName) {
  write_toy_images(folder_ / "first", {"blue", "green", "red"}, 12);
  write_toy_images(folder_ / "second", {"green", "white"}, 12, /*seed=*/8);
  const nlohmann::json a = learn_task(learn_request(folder_ / "model", folder_ / "first", "a")).results;
  EXPECT_EQ(a["labels"], (std::vector<std::string>{"blue", "green", "red"}));
  const nlohmann::json b = learn_task(learn_request(folder_ / "model", folder_ / "second", "b")).results;
  EXPECT_EQ(b["labels"], (std::vector<std::string>{"blue", "green", "red", "white"}));
  EXPECT_TRUE(b["test"]["per_class"]["blue"].is_null()) << "its data has no such image";
  const ModelDirectory directory = open();
  const Batch rows{{{"features", at::ones({2, 32})}}, 2};
  const at::Tensor four = directory.load("b").model.forward(rows, {}).at("logits");
  EXPECT_EQ(four.size(1), 4);
  const LoadedTask first = directory.load("a");
  EXPECT_EQ(first.record.follows->version, 2) << "the newest version serves all that follow it";
  EXPECT_TRUE(at::allclose(first.model.forward(rows, {}).at("logits"), four.narrow(1, 0, 3)))
      << "the first task has the columns of its own classes";
}

}  // namespace
}  // namespace recast
