// Piggyback: one bit a weight, straight-through gradients, masks that agree with their scores, a second implementation.
#include <gtest/gtest.h>

#include "methods/adapter_case.h"
#include "methods/adapter_effect.h"

namespace recast {
namespace {

std::vector<std::string> weight_slots(const Backbone& backbone) {
  std::vector<std::string> names;
  for (const Slot& slot : backbone.anatomy().slots)
    if (slot.kind == SlotKind::kWeight) names.push_back(slot.name);
  return names;
}

/// Scores of both sides of the threshold, as if a run were under way.
void draw_scores(Model& model, const std::vector<std::string>& slots) {
  for (const std::string& name : slots)
    model.numbers()
        .at("piggyback", Scope::kRun)
        .set("score@" + name,
             Key(4).fold(name).uniform(model.backbone().anatomy().at(name).shape) * 0.02 - 0.005);  // -5e-3 .. 15e-3
}

/// The definition, a bit at a time: the first weight in the lowest bit.
at::Tensor packed(const at::Tensor& score) {
  const at::Tensor flat = score.flatten();
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>((flat.numel() + 7) / 8));
  for (std::int64_t i = 0; i < flat.numel(); ++i)
    if (flat[i].item<float>() > 0.005f) bytes[i / 8] |= 1 << (i % 8);
  return at::tensor(bytes, at::kByte);
}

TEST(Piggyback, StoresOneBitAWeight) {
  VitConfig vit = toy_vit_config();
  vit.width = 30;
  vit.mlp_width = 61;  // 30 x 61 weights do not fill their last byte
  const auto backbone = make_backbone(toy_vit(1, vit));
  for (const std::string target : {"all", "body"}) {
    const Model model = untrained(backbone, {"piggyback:target=" + target});
    std::int64_t bytes = 0;
    for (const std::string& name : weight_slots(*backbone)) {
      const auto& shape = backbone->anatomy().at(name).shape;
      if (target == "all" || name != "patch_embed") bytes += (c10::multiply_integers(shape) + 7) / 8;
    }
    const Plug& plug = model.recipe().plug("piggyback");
    EXPECT_EQ(plug.method->stored_bytes(model.numbers().at("piggyback", Scope::kTask)), bytes);
    EXPECT_EQ(model.numbers().at("piggyback", Scope::kTask).bytes(), bytes);
    EXPECT_EQ(plug.method->learned_numbers(model.numbers().at("piggyback", Scope::kTask)), 8 * bytes);
    EXPECT_TRUE(model.numbers().at("piggyback", Scope::kRun).empty());
  }
}

TEST(Piggyback, BitsGiveWhatTheScoresGave) {
  VitConfig vit = toy_vit_config();
  vit.width = 30;
  vit.mlp_width = 61;
  const auto backbone = make_backbone(toy_vit(1, vit));
  const std::vector<std::string> slots = weight_slots(*backbone);
  Model scored = untrained(backbone, {"piggyback"}), stored = scored;
  draw_scores(scored, slots);
  for (const std::string& name : slots)
    stored.numbers()
        .at("piggyback", Scope::kTask)
        .set("bits@" + name, packed(scored.numbers().at("piggyback", Scope::kRun).tensor("score@" + name)));
  const Batch batch{{{"input", toy_images(3)}}, 3};
  EXPECT_TRUE(at::equal(scored.features(batch, {}), stored.features(batch, {})));
  for (const std::string& name : slots) {
    const at::Tensor made = stored.weights().tensor(name), own = backbone->weight(backbone->anatomy().at(name));
    EXPECT_TRUE(at::equal(made, scored.weights().tensor(name))) << name;
    const at::Tensor kept = scored.numbers().at("piggyback", Scope::kRun).tensor("score@" + name).gt(0.005);
    EXPECT_TRUE(at::equal(made, at::where(kept, own, at::zeros_like(own)))) << name;
    EXPECT_TRUE(kept.any().item<bool>() && !kept.all().item<bool>()) << name;
  }
}

struct Masking {
  explicit Masking(std::int64_t epochs, std::vector<std::string> plugs = {"piggyback"})
      : recipe(toy_recipe(epochs)), start(toy_model(backbone, recipe, plugs)) {
    recipe.rate = 2e-3;
  }
  Learned learn(const Model& from) const { return recast::learn(from, toy_task(), sources, recipe, {}); }
  Learned learn() const { return learn(start); }
  static const State& bits(const Learned& learned) { return learned.model.numbers().at("piggyback", Scope::kTask); }
  static std::int64_t dropped(const Learned& learned) {
    std::int64_t dropped = 0;
    const State weights = learned.model.weights();
    for (const std::string& name : weight_slots(learned.model.backbone()))
      dropped += weights.tensor(name).eq(0).sum().item<std::int64_t>();
    return dropped;
  }

  Recipe recipe;
  std::shared_ptr<const Backbone> backbone = toy_backbone();
  Sources sources = toy_sources(40);
  Model start;
};

TEST(Piggyback, WhatIsStoredIsWhatWasValidated) {
  Masking run(12);
  run.recipe.rate = run.recipe.head_rate = 0.3;  // so large that later epochs undo what earlier ones gained
  const Learned learned = run.learn();
  ASSERT_GT(Masking::dropped(learned), 0) << "nothing was masked: the test proves nothing";
  ASSERT_LT(learned.best_epoch, 12) << "the best epoch is the last: the test proves nothing of the others";
  // Validated with scores while the run went on, measured again with bits.
  const auto& epoch = learned.history[static_cast<std::size_t>(learned.best_epoch - 1)];
  EXPECT_EQ(evaluate(learned.model, *run.sources.validation, 3, false).loss, epoch.validation_loss);
}

TEST(Piggyback, AMaskAloneFitsTheImages) {
  Masking run(60);
  run.recipe.rate = 2e-4;
  run.recipe.head_rate = 0;
  const Learned learned = run.learn();
  Masking none(0);
  none.recipe.head_rate = 0;
  const auto loss = [&](const Learned& l) { return evaluate(l.model, *run.sources.train, 3, false).loss; };
  EXPECT_GT(Masking::dropped(learned), 0);
  EXPECT_LT(loss(learned), 0.8 * loss(none.learn()));
}

TEST(Piggyback, SmallWeightsAreTheFirstToGo) {
  Masking run(10, {"piggyback:start=magnitude"});
  run.recipe.rate = 1e-4;
  const Learned learned = run.learn();
  const State weights = learned.model.weights();
  double kept = 0, gone = 0;
  std::int64_t masked = 0;
  for (const std::string& name : weight_slots(*run.backbone)) {
    const at::Tensor own = run.backbone->weight(run.backbone->anatomy().at(name)).abs().to(at::kDouble);
    const at::Tensor mask = weights.tensor(name).eq(0);
    masked += mask.sum().item<std::int64_t>();
    gone += own.masked_select(mask).sum().item<double>();
    kept += own.masked_select(mask.logical_not()).sum().item<double>();
  }
  ASSERT_GT(masked, 0);
  std::int64_t all = 0;
  for (const std::string& name : weight_slots(*run.backbone)) all += weights.tensor(name).numel();
  EXPECT_LT(gone / static_cast<double>(masked), 0.5 * kept / static_cast<double>(all - masked)) << "mean sizes";
}

TEST(Piggyback, GoesOnFromItsBits) {
  const Learned first = Masking(4).learn();
  ASSERT_GT(Masking::dropped(first), 0);
  Masking none(0);
  EXPECT_TRUE(equal(Masking::bits(none.learn(first.model)), Masking::bits(first)));
  const Learned further = Masking(4).learn(first.model);
  EXPECT_FALSE(equal(Masking::bits(further), Masking::bits(first)));
}

TEST(Piggyback, MasksTheWeightsThatRecastMakes) {
  const Masking run(3, {"recast:grain=block", "piggyback:target=body"});
  const Learned learned = run.learn();
  const State masked = learned.model.weights();
  const Model alone(run.backbone, toy_model(run.backbone, run.recipe, {"recast:grain=block"}).shared_recipe(),
                    learned.model.numbers());
  const State whole = alone.weights();
  std::int64_t moved = 0, dropped = 0;
  for (const std::string& name : weight_slots(*run.backbone)) {
    const at::Tensor made = masked.tensor(name), unmasked = whole.tensor(name);
    EXPECT_TRUE(at::logical_or(made.eq(0), made.eq(unmasked)).all().item<bool>()) << name;
    dropped += made.eq(0).sum().item<std::int64_t>();
    moved += !at::equal(unmasked, run.backbone->weight(run.backbone->anatomy().at(name)));
  }
  EXPECT_GT(moved, 0);
  EXPECT_GT(dropped, 0);
}

TEST(Piggyback, AgreesWithAnIndependentImplementation) {
  RECAST_NEED_PYTHON("torch,safetensors");
  const VitConfig vit = toy_vit_config();
  const ModelFiles files = toy_vit(1, vit);
  Model model = untrained(make_backbone(files), {"piggyback"});
  draw_scores(model, weight_slots(model.backbone()));
  AdapterComparison comparison;
  comparison.add(
      "vit", {vit_question(vit), {{"name", "piggyback"}, {"threshold", 5e-3}, {"trains", {"score"}}}, {"piggyback"}},
      model, files.backbone);
  const CnnConfig cnn = toy_cnn_config("inverted");
  const ModelFiles cnn_files = toy_cnn(1, cnn);
  Model mobile = untrained(make_backbone(cnn_files), {"piggyback"});
  draw_scores(mobile, weight_slots(mobile.backbone()));
  comparison.add(
      "cnn", {cnn_question(cnn), {{"name", "piggyback"}, {"threshold", 5e-3}, {"trains", {"score"}}}, {"piggyback"}},
      mobile, cnn_files.backbone);
  comparison.expect_agreement();
}

TEST(PiggybackEffect, LearnsARealTaskAloneAndBesideRecast) {
  RECAST_NEED_REAL_TASK_ON(kZooLite0);
  expect_learns_on_cnn("piggyback:start=magnitude", kLite0Weights / 8);
  if (!full_effects()) return;
  RECAST_NEED_REAL_TASK();
  // ViT-S/14: twelve blocks of 12 D^2 weights and the patch embedding.
  expect_learns_on_vit("piggyback:start=magnitude", (12 * 12 * 384 * 384 + 384 * 3 * 14 * 14) / 8);
}

}  // namespace
}  // namespace recast
