// Full fine-tuning: one network for all tasks, or a copy for each.
#include <gtest/gtest.h>

#include "conformance/toy_source.h"

namespace recast {
namespace {

struct Finetuning {
  explicit Finetuning(const std::string& plug) : start(toy_model(backbone, recipe, {plug})) {}
  Learned learn(const std::string& name, std::uint64_t seed, const Numbers& shared) const {
    Model model = start;
    model.numbers() = shared;
    return recast::learn(model, toy_task(name), toy_sources(20, 3, seed), recipe, {});
  }
  at::Tensor logits(const Numbers& numbers) const {
    return Model(backbone, start.shared_recipe(), numbers)
        .forward(toy_batch(*toy_source(5, 3, 11, 500), {0, 1, 2, 3, 4}), {})
        .at("logits");
  }

  Recipe recipe = toy_recipe(2);
  std::shared_ptr<const Backbone> backbone = toy_backbone();
  Model start;
};

TEST(Finetune, ASharedNetworkGoesOnFromTheTaskBefore) {
  const Finetuning run("finetune");
  EXPECT_FALSE(run.start.recipe().isolated());
  const Numbers first = run.learn("first", 11, {}).model.numbers();
  EXPECT_TRUE(first.at("finetune", Scope::kTask).empty());
  Finetuning still("finetune");
  still.recipe.epochs = 0;
  const Numbers carried = still.learn("second", 12, first.only(Scope::kShared)).model.numbers();
  EXPECT_TRUE(equal(carried.at("finetune", Scope::kShared), first.at("finetune", Scope::kShared)));
  const Numbers second = run.learn("second", 12, first.only(Scope::kShared)).model.numbers();
  Numbers now = first.only(Scope::kTask);
  now.at("finetune", Scope::kShared) = second.at("finetune", Scope::kShared);
  EXPECT_FALSE(at::equal(run.logits(now), run.logits(first))) << "learning the second task left the first as it was";
}

TEST(Finetune, ACopyForEachTaskIsIsolated) {
  const Finetuning run("finetune:scope=task");
  const Numbers first = run.learn("first", 11, {}).model.numbers();
  EXPECT_TRUE(first.only(Scope::kShared).plugs().empty());
  const at::Tensor before = run.logits(first).clone();
  run.learn("second", 12, first.only(Scope::kShared));
  EXPECT_TRUE(at::equal(run.logits(first), before));
}

TEST(Finetune, TrainsEveryParameterAndNotTheBackbones) {
  for (const char* plug : {"finetune", "finetune:scope=task"}) {
    const Finetuning run(plug);
    const State before = backbone_numbers(*run.backbone);
    const Learned learned = run.learn("first", 11, {});
    EXPECT_TRUE(equal(before, backbone_numbers(*run.backbone)));
    const State weights = learned.model.weights();
    for (const Slot& slot : run.backbone->anatomy().slots)
      if (slot.kind == SlotKind::kWeight || slot.kind == SlotKind::kVector) {
        EXPECT_FALSE(at::equal(weights.tensor(slot.name), run.backbone->weight(slot))) << slot.name << " stood still";
      }
  }
}

}  // namespace
}  // namespace recast
