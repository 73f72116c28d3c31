#include "recast/train/learn.h"

#include <gtest/gtest.h>

#include "conformance/toy_source.h"

namespace recast {
namespace {

/// The recipe `fast` on toys: one epoch more or less of real learning, a fitted head first.
Recipe fitted_recipe() {
  Recipe recipe = toy_recipe(2);
  recipe.fit_head = true;
  recipe.suggested_rates = true;
  recipe.head_rate = 1e-3;
  return recipe;
}

class Recorder : public Listener {
 public:
  void epoch(const EpochMetrics& metrics) override { epochs.push_back(metrics); }
  void note(const std::string& text) override { notes.push_back(text); }
  std::vector<EpochMetrics> epochs;
  std::vector<std::string> notes;
};

TEST(Learn, NeverEndsBelowTheHeadAloneOnValidation) {
  const auto backbone = toy_backbone();
  const Recipe recipe = fitted_recipe();
  const Learned learned =
      learn(toy_model(backbone, recipe, {"recast:grain=head"}), toy_task(), toy_sources(30), recipe, {});
  ASSERT_EQ(learned.candidates.size(), 3u);
  EXPECT_EQ(learned.candidates[0].first, "head");
  EXPECT_EQ(learned.candidates[1].first, "train");
  EXPECT_EQ(learned.candidates[2].first, "refit");
  for (const auto& [stage, top1] : learned.candidates) EXPECT_LE(top1, learned.validation.top1) << stage;
}

TEST(Learn, FitsAHeadAloneWithoutEpochs) {
  const auto backbone = toy_backbone();
  const Recipe recipe = fitted_recipe();
  Recorder recorder;
  Budget budget;
  budget.listener = &recorder;
  const Learned learned =
      learn(toy_model(backbone, recipe, {"linear-probe"}), toy_task(), toy_sources(30), recipe, budget);
  EXPECT_EQ(learned.kept, "head");
  ASSERT_EQ(recorder.epochs.size(), 1u);
  EXPECT_EQ(recorder.epochs[0].stage, "head");
  EXPECT_GT(learned.validation.top1, 0.5) << "three classes that a random picture tells apart";
}

TEST(Learn, TakesTheBareBackbonesFeaturesFromWhoeverKeepsThem) {
  const auto backbone = toy_backbone();
  const Recipe recipe = fitted_recipe();
  const Sources sources = toy_sources(30);
  const Model bare(backbone, compose({}, backbone->anatomy()), {}), start = toy_model(backbone, recipe, {"recast"});
  std::vector<const Source*> asked;
  Budget budget;
  budget.bare_features = [&](const Source& source, bool bf16) {
    asked.push_back(&source);
    return std::optional(extract_features(bare, source, bf16));
  };
  const Learned kept = learn(start, toy_task(), sources, recipe, budget),
                made = learn(start, toy_task(), sources, recipe, {});
  EXPECT_EQ(asked, (std::vector<const Source*>{sources.train.get(), sources.validation.get()}))
      << "and not for the refit";
  EXPECT_TRUE(equal(kept.model.numbers(), made.model.numbers()));

  asked.clear();
  learn(Model(backbone, start.shared_recipe(), made.model.numbers()), toy_task(), sources, recipe, budget);
  EXPECT_TRUE(asked.empty()) << "a model that has learned is no bare backbone";
}

TEST(Learn, KeepsTheEpochThatValidatesBest) {
  const auto backbone = toy_backbone();
  Recipe recipe = toy_recipe(6);
  const Sources sources = toy_sources(24);
  const Model start = toy_model(backbone, recipe, {"recast"});
  const Learned learned = learn(start, toy_task(), sources, recipe, {});
  ASSERT_EQ(learned.history.size(), 6u);
  double best = 0;
  for (const EpochMetrics& metrics : learned.history) best = std::max(best, metrics.validation_top1);
  EXPECT_EQ(learned.validation.top1, best);
  EXPECT_EQ(evaluate(learned.model, *sources.validation, 3, false).top1, best)
      << "the numbers kept are a copy of that epoch's";
  EXPECT_EQ(learned.history[learned.best_epoch - 1].validation_top1, best);
}

TEST(Learn, LeavesTheModelThatItStartsFromAlone) {
  const auto backbone = toy_backbone();
  const Recipe recipe = toy_recipe(1);
  Model start = toy_model(backbone, recipe, {"finetune"});
  start = learn(start, toy_task(), toy_sources(), recipe, {}).model;
  const Numbers before = start.numbers().clone();
  learn(start, toy_task("next"), toy_sources(24, 3, 5), recipe, {});
  EXPECT_TRUE(equal(before, start.numbers()));
}

TEST(Learn, GivesHeadAndPluginsTheirOwnRates) {
  const auto backbone = toy_backbone();
  Recipe recipe = toy_recipe(1);
  recipe.rate = recipe.head_rate = 0;
  recipe.weight_decay = 0;
  Budget budget;
  budget.rates["recast"] = 0.05;
  const Model start = toy_model(backbone, recipe, {"recast"});
  Recipe still = recipe;
  still.epochs = 0;
  const Learned none = learn(start, toy_task(), toy_sources(), still, {});
  const Learned moved = learn(start, toy_task(), toy_sources(), recipe, budget);
  EXPECT_TRUE(equal(none.model.numbers().at("linear-probe", Scope::kTask),
                    moved.model.numbers().at("linear-probe", Scope::kTask)));
  EXPECT_FALSE(
      equal(none.model.numbers().at("recast", Scope::kTask), moved.model.numbers().at("recast", Scope::kTask)));
}

TEST(Learn, RefusesACheckpointOfAnotherSeed) {
  const auto backbone = toy_backbone();
  const Recipe recipe = toy_recipe(1);
  const auto folder = std::filesystem::temp_directory_path() / "recast_learn_test";
  std::filesystem::create_directories(folder);
  Budget budget;
  budget.checkpoint = folder / "last.safetensors";
  learn(toy_model(backbone, recipe, {"recast"}), toy_task(), toy_sources(), recipe, budget);
  budget.resume = true;
  budget.seed = 43;
  try {
    learn(toy_model(backbone, recipe, {"recast"}), toy_task(), toy_sources(), recipe, budget);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kShapeMismatch);
    EXPECT_NE(std::string(error.what()).find("seed"), std::string::npos) << error.what();
  }
  std::filesystem::remove_all(folder);
}

TEST(Learn, RunsInBf16CloseToFp32) {
  const auto backbone = toy_backbone();
  const Sources sources = toy_sources(30);
  Recipe recipe = fitted_recipe();
  const Model start = toy_model(backbone, recipe, {"recast"});
  const Learned fp32 = learn(start, toy_task(), sources, recipe, {});
  recipe.bf16 = true;
  const Learned bf16 = learn(start, toy_task(), sources, recipe, {});
  EXPECT_NEAR(fp32.validation.top1, bf16.validation.top1, 0.3);
  EXPECT_EQ(bf16.model.numbers().at("recast", Scope::kTask).tensor("c@blocks.0.attn.qkv").scalar_type(), at::kFloat);
}

TEST(Evaluate, CountsWhatALoopCounts) {
  const auto backbone = toy_backbone();
  const Recipe recipe = toy_recipe(0);
  const Sources sources = toy_sources(70, 7);
  const Learned learned = learn(toy_model(backbone, recipe, {}), toy_task("seven", 7), sources, recipe, {});
  const Evaluation result = evaluate(learned.model, *sources.train, 7, false);
  std::vector<std::int64_t> rows(70);
  std::iota(rows.begin(), rows.end(), 0);
  const Batch batch = toy_batch(*sources.train, rows);
  const at::Tensor logits = learned.model.forward(batch, {}).at("logits");
  int top1 = 0, top5 = 0;
  double loss = 0;
  std::vector<int> right(7, 0);
  for (int r = 0; r < 70; ++r) {
    const auto label = batch.column("label")[r].item<std::int64_t>();
    int above = 0, best = 0;
    double total = 0;
    for (int c = 0; c < 7; ++c) {
      const double z = logits[r][c].item<double>();
      above += z > logits[r][label].item<double>();
      if (z > logits[r][best].item<double>()) best = c;
      total += std::exp(z);
    }
    top1 += best == label;
    top5 += above < 5;
    right[label] += best == label;
    loss += std::log(total) - logits[r][label].item<double>();
  }
  EXPECT_EQ(result.rows, 70);
  EXPECT_DOUBLE_EQ(result.top1, top1 / 70.0);
  EXPECT_DOUBLE_EQ(result.top5, top5 / 70.0);
  EXPECT_NEAR(result.loss, loss / 70, 1e-5);
  for (int c = 0; c < 7; ++c) EXPECT_DOUBLE_EQ(result.per_class[c], right[c] / 10.0);
}

TEST(FitLogistic, FindsTheMinimumThatItsGradientVanishesAt) {
  const at::Tensor x = Key(3).fold("x").normal({120, 6});
  const at::Tensor direction = Key(3).fold("w").normal({6, 4});
  const at::Tensor label = (x.matmul(direction) + Key(3).fold("noise").normal({120, 4})).argmax(1);
  const FeatureTable table{x * 3 + 5, label};
  const LinearClassifier fitted = fit_logistic(table, table, 4);
  // Gradient of mean cross-entropy + |V|^2 / (2 C n) in the standardised weights V, in double, by hand.
  const at::Tensor raw = table.features.to(at::kDouble);
  const at::Tensor scale = raw.var(0, false).sqrt();
  const at::Tensor z = (raw - raw.mean(0)) / scale;
  const at::Tensor v = fitted.weight.to(at::kDouble) * scale;
  const at::Tensor p = at::softmax(at::linear(raw, fitted.weight.to(at::kDouble), fitted.bias.to(at::kDouble)), 1);
  const at::Tensor residual = (p - at::one_hot(label, 4).to(at::kDouble)) / 120;
  const at::Tensor gradient = residual.t().matmul(z) + v / (fitted.strength * 120);
  EXPECT_LT(gradient.abs().max().item<double>(), 1e-4);
  EXPECT_LT(residual.sum(0).abs().max().item<double>(), 1e-4);
}

// Channels after a ReLU: zero on nearly all training images, not so on some image of the test split.
TEST(FitLogistic, AFeatureThatHardlyEverFiresDoesNotOutweighTheOthers) {
  const at::Tensor label = at::arange(80).remainder(2);
  at::Tensor x =
      at::cat({(label * 2 - 1).to(at::kFloat).unsqueeze(1) + Key(3).normal({80, 1}) * 0.5, at::zeros({80, 1})}, 1);
  x[0][1] = 1e-3;  // of class 0
  const LinearClassifier fitted = fit_logistic({x, label}, {x, label}, 2);
  const at::Tensor seen = at::tensor({1.f, 0.5f});  // plainly of class 1
  EXPECT_EQ(at::linear(seen, fitted.weight, fitted.bias).argmax().item<std::int64_t>(), 1);
}

TEST(FitLogistic, SurvivesAConstantFeatureAndRefusesNan) {
  at::Tensor x = Key(3).normal({40, 3});
  x.select(1, 1).fill_(2.0);
  const at::Tensor label = x.select(1, 0).gt(0).to(at::kLong);
  const LinearClassifier fitted = fit_logistic({x, label}, {x, label}, 2);
  EXPECT_GT(fitted.validation_top1, 0.9);
  EXPECT_TRUE(at::isfinite(fitted.weight).all().item<bool>());
  x[0][0] = NAN;
  EXPECT_THROW(fit_logistic({x, label}, {x, label}, 2), Error);
}

}  // namespace
}  // namespace recast
