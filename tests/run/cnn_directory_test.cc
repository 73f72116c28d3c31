// What the commands make of a model directory with a convolutional network.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "format/expect_error.h"
#include "model/toy_cnn.h"
#include "recast/format/files.h"
#include "recast/run/evaluate_task.h"
#include "recast/run/import_checkpoint.h"
#include "recast/run/inspect_directory.h"
#include "recast/run/learn_task.h"
#include "recast/run/mimic_directory.h"
#include "recast/run/predict_images.h"
#include "recast/run/report.h"
#include "run/toy_model.h"

namespace recast {
namespace {

class CnnDirectory : public ::testing::Test {
 protected:
  void SetUp() override {
    write_model_files(folder_ / "base", toy_cnn(), false);
    MimicRequest mimicry;
    mimicry.directory = folder_ / "base";
    mimicry.out = folder_ / "model";
    made_ = mimic_directory(mimicry);
    write_toy_images(folder_ / "data", {"red", "green", "blue"}, 12);
  }
  LearnRequest request() const {
    LearnRequest request;
    request.directory = folder_ / "model";
    request.data = folder_ / "data";
    request.task = "colours";
    request.epochs = 2;
    request.batch_size = 8;
    return request;
  }

  TemporaryFolder folder_;
  nlohmann::json made_;
};

TEST_F(CnnDirectory, IsMimickedByStageAndPlace) {
  EXPECT_EQ(made_["target"], "conv");
  EXPECT_EQ(made_["templates"], 0);
  EXPECT_EQ(made_["coefficients"], 32);  // 4 banks of 2 slots, n = 2, K = 2
  EXPECT_EQ(made_["worst_relative_error"], 0);
  const nlohmann::json seen = inspect_directory(ModelDirectory::open(folder_ / "model", true));
  EXPECT_EQ(seen["groups"][0]["name"], "layer1.conv1.0");
  EXPECT_EQ(seen["groups"][0]["templates"], 2);
  EXPECT_EQ(seen["groups"][0]["shape"], nlohmann::json({8, 8, 3, 3}));
  EXPECT_EQ(seen["feature_width"], 16);
  EXPECT_TRUE(seen["config"].contains("cnn"));
}

TEST_F(CnnDirectory, LearnsATaskWithoutTouchingABatchNorm) {
  const std::string backbone = sha256_hex_of_file(folder_ / "model" / "backbone.safetensors");
  const nlohmann::json results = learn_task(request()).results;
  EXPECT_EQ(results["coefficients"], 32);
  EXPECT_EQ(sha256_hex_of_file(folder_ / "model" / "backbone.safetensors"), backbone);
  EvaluateRequest again;
  again.task = "colours";
  const nlohmann::json evaluated = evaluate_tasks(ModelDirectory::open(folder_ / "model", true), again);
  EXPECT_EQ(evaluated["top1"], results["test"]["top1"]);
}

TEST_F(CnnDirectory, FinetunesWithoutItsRunningStatistics) {
  LearnRequest wanted = request();
  wanted.plugs = {"finetune:scope=task"};
  const nlohmann::json results = learn_task(wanted).results;
  const ModelDirectory directory = ModelDirectory::open(folder_ / "model", true);
  const TaskRecord record = directory.record("colours");
  const State& own = record.numbers.at("finetune", Scope::kTask);
  EXPECT_TRUE(own.has("own@layer1.0.bn1.weight"));
  EXPECT_FALSE(own.has("own@layer1.0.bn1.running_mean"));
  EXPECT_FALSE(own.has("own@layer1.0.bn1.running_var"));
}

TEST_F(CnnDirectory, IsReportedWithTheLikenessOfItsBlocks) {
  LearnRequest wanted = request();
  wanted.recipe = "paper";  // which trains the coefficients and keeps them so
  learn_task(wanted);
  ReportOptions options;
  write_report(ModelDirectory::open(folder_ / "model", true), folder_ / "report.html", false, options);
  const std::string page = read_file(folder_ / "report.html", 64 << 20);
  for (const char* block : {"layer1.0", "layer2.2"}) EXPECT_THAT(page, ::testing::HasSubstr(block));
}

TEST_F(CnnDirectory, NamesTheLeastSideOfAnImage) {
  LearnRequest wanted = request();
  wanted.image_size = 3;
  EXPECT_THAT(error_of(Code::kShapeMismatch, [&] { learn_task(wanted); }),
              ::testing::HasSubstr("sides must be at least 4"));
}

TEST(ImportResnet, KeepsTheClassifierAsATask) {
  TemporaryFolder folder;
  const ModelConfig config = architecture("resnet20_cifar");
  NamedTensors tensors = toy_tensors(config.cnn(), 3);
  tensors["linear.weight"] = Key(4).normal({4, 64}) * 0.1;
  tensors["linear.bias"] = Key(5).normal({4});
  write_tensor_file(folder / "checkpoint.safetensors", {tensors, {}});
  ImportRequest request;
  request.checkpoint = folder / "checkpoint.safetensors";
  request.architecture = "resnet20_cifar";
  request.out = folder / "model";
  const nlohmann::json report = import_model(request);
  EXPECT_EQ(report["naming"], "torchvision");
  EXPECT_EQ(report["cnn"]["shortcut"], "pad");
  EXPECT_EQ(report["task"], nlohmann::json({{"name", "pretrained"}, {"classes", 4}}));

  write_toy_images(folder / "images", {"x"}, 1);
  PredictRequest predict;
  predict.task = kPretrainedTask;
  predict.images = {folder / "images" / "x" / "0.png"};
  const auto logits_in = [&](const char* directory) {
    const nlohmann::json document = predict_images(ModelDirectory::open(folder / directory, true), predict);
    return document["predictions"][0]["logits"].get<std::vector<float>>();
  };
  MimicRequest mimicry;
  mimicry.directory = folder / "model";
  mimicry.out = folder / "mimicked";
  const nlohmann::json made = mimic_directory(mimicry);
  EXPECT_EQ(made["tasks"]["kept"], nlohmann::json({"pretrained"}));
  EXPECT_EQ(made["coefficients"], 6 * 2 * 2 * 2);  // 6 banks of 2 slots
  EXPECT_EQ(logits_in("mimicked"), logits_in("model"));
}

}  // namespace
}  // namespace recast
