// Batch norms of the task's own: PyTorch's arithmetic, what is stored, learn --bn task, a second implementation.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "format/expect_error.h"
#include "methods/adapter_case.h"
#include "methods/adapter_effect.h"
#include "recast/run/evaluate_task.h"
#include "recast/run/model_directory.h"
#include "run/toy_model.h"

namespace recast {
namespace {

using ::testing::HasSubstr;

TEST(BatchNorm, CountsTwoNumbersAChannel) {
  const Model model = untrained(zeros_of("resnet34"), {"batch-norm"}, /*side_px=*/32);
  const State& own = model.numbers().at("batch-norm", Scope::kTask);
  EXPECT_EQ(count(own), 17024);
  EXPECT_EQ(own.bytes(), 4 * 17024);
  EXPECT_EQ(model.recipe().plug("batch-norm").method->learned_numbers(own), 17024);
}

TEST(BatchNorm, AgreesWithAnIndependentImplementation) {
  RECAST_NEED_PYTHON("torch,safetensors");
  AdapterComparison comparison;
  for (const std::string block : {"basic", "inverted"})
    for (const Mode mode : {Mode::kTrain, Mode::kEvaluate}) {
      const CnnConfig cnn = toy_cnn_config(block);
      const ModelFiles files = toy_cnn(1, cnn);
      // CLR's kernels before each norm show the gradient that passes through the batch's statistics.
      Model model = untrained(make_backbone(files), {"clr", "batch-norm:momentum=0.3"});
      shake(model, "clr", 0.2);
      shake(model, "batch-norm", 0.1);
      const bool train = mode == Mode::kTrain;
      comparison.add(block + (train ? ".train" : ".evaluate"),
                     {cnn_question(cnn),
                      {{"name", "batch-norm"}, {"momentum", 0.3}, {"train", train}, {"trains", {"k"}}},
                      {"clr", "batch-norm"},
                      mode},
                     model, files.backbone);
    }
  comparison.expect_agreement();
}

TEST(BatchNorm, FollowsTheBatchesStepByStep) {
  const auto backbone = toy_cnn_backbone();
  Recipe recipe = toy_recipe(/*epochs=*/1, /*batch_size=*/4);
  recipe.rate = recipe.head_rate = 1e-9;  // the first convolution does not move
  const Sources sources = toy_sources(4);
  const Learned learned = learn(toy_model(backbone, recipe, {"batch-norm"}), toy_task(), sources, recipe, {});
  const at::Tensor images = toy_batch(*sources.train, {0, 1, 2, 3}).column("input");
  const auto own = [&](const char* slot) { return backbone->weight(backbone->anatomy().at(slot)); };
  const at::Tensor y = at::conv2d(images, own("conv1"), {}, 2, 1).to(at::kDouble);
  const auto expected = [&](const char* old, const at::Tensor& now) {
    return 0.9 * own(old).to(at::kDouble) + 0.1 * now;
  };
  const State& kept = learned.model.numbers().at("batch-norm", Scope::kTask);
  EXPECT_LE(relative_difference(kept.tensor("mean@bn1"), expected("bn1.running_mean", y.mean({0, 2, 3}))), 1e-6);
  EXPECT_LE(relative_difference(kept.tensor("var@bn1"),
                                expected("bn1.running_var", y.transpose(0, 1).flatten(1).var(1, /*unbiased=*/true))),
            1e-6);
}

TEST(BatchNorm, LeavesABatchOfOneValueAChannelAlone) {
  const Model model = untrained(toy_cnn_backbone(), {"batch-norm"});
  Emissions emissions;
  recast::Run run;
  run.mode = Mode::kTrain;
  run.emissions = &emissions;
  const at::Tensor features = model.features(Batch{{{"input", toy_images(1, /*size_px=*/4)}}, 1}, run);
  EXPECT_TRUE(at::isfinite(features).all().item<bool>());
  EXPECT_TRUE(emissions.values.contains({"batch-norm", "mean@bn1"}));            // 2 x 2 values
  EXPECT_FALSE(emissions.values.contains({"batch-norm", "mean@layer2.0.bn1"}));  // 1 x 1
}

TEST(BatchNorm, StandsInsideWhateverElseActsOnItsSlots) {
  const Model one = untrained(toy_cnn_backbone(), {"clr", "batch-norm"});
  EXPECT_EQ(one.recipe().branches("bn1").front()->alias(), "batch-norm");
}

/// A directory with the toy ResNet, images of three colours, and a request for them.
struct ColourRun {
  explicit ColourRun(const ModelFiles& files) {
    write_model_files(folder / "model", files, false);
    write_toy_images(folder / "data", {"blue", "green", "red"}, 12);
    request.directory = folder / "model";
    request.data = folder / "data";
    request.task = "colours";
    request.epochs = 2;
    request.batch_size = 8;
    request.bn = "task";
  }
  TemporaryFolder folder;
  LearnRequest request;
};

TEST(BatchNorm, IsWhatLearnTakesByItsFlag) {
  ColourRun run(toy_cnn());
  run.request.plugs = {"clr"};
  const nlohmann::json results = learn_task(run.request).results;
  EXPECT_EQ(results["plugs"][0], "batch-norm");
  const std::int64_t channels = 8 + 3 * 16 + 3 * 32 + 16;  // stem, conv1 and conv2 of six blocks, one shortcut
  EXPECT_EQ(results["numbers"]["batch-norm"], nlohmann::json({{"learned", 2 * channels}, {"bytes", 8 * channels}}));
  EXPECT_EQ(results["coefficients"], 2 * channels + 9 * channels);
  const std::string log = read_file(std::filesystem::path(results["run"].get<std::string>()) / "run.log", 1 << 20);
  EXPECT_THAT(log, HasSubstr("batch-norm " + std::to_string(2 * channels) + " ("));
  // What is stored carries the statistics: eval repeats the figures.
  EvaluateRequest evaluation;
  evaluation.task = "colours";
  const nlohmann::json again = evaluate_tasks(ModelDirectory::open(run.request.directory, true), evaluation);
  EXPECT_EQ(again["loss"], results["test"]["loss"]);
}

TEST(BatchNorm, IsTakenOnceWhereItIsNamedAsWell) {
  ColourRun run(toy_cnn());
  run.request.plugs = {"batch-norm:momentum=0.5"};
  const auto plugs = learn_task(run.request).results["plugs"];
  EXPECT_EQ(std::count(plugs.begin(), plugs.end(), "batch-norm:momentum=0.5"), 1);
  EXPECT_EQ(std::count(plugs.begin(), plugs.end(), "batch-norm"), 0);
}

TEST(BatchNorm, TheFlagIsRefusedOnATransformer) {
  ColourRun run(toy_vit());
  EXPECT_THAT(error_of(Code::kUnsupported, [&] { learn_task(run.request); }), HasSubstr("[batch-norm]"));
  run.request.bn = "thawed";
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { learn_task(run.request); }), HasSubstr("--bn must be"));
}

TEST(BatchNormEffect, LearnsARealTaskAloneAndBesideRecast) {
  RECAST_NEED_REAL_TASK_ON(kZooLite0);
  expect_learns_on_cnn("batch-norm", 8 * kLite0Channels);
}

}  // namespace
}  // namespace recast
