// Norm tuning: which slots, how many numbers, what they do, that they learn.
#include <gtest/gtest.h>

#include "conformance/toy_source.h"
#include "model/toy_cnn.h"

namespace recast {
namespace {

Learned learn_norms(const std::string& options, std::int64_t epochs) {
  const Recipe recipe = toy_recipe(epochs);
  return learn(toy_model(toy_backbone(), recipe, {"norm-tuning" + options}), toy_task(), toy_sources(20), recipe, {});
}
const State& numbers(const Learned& learned) { return learned.model.numbers().at("norm-tuning", Scope::kTask); }

TEST(NormTuning, CountsItsNumbers) {
  // Two blocks of two norms and a last one, width 32.
  EXPECT_EQ(numbers(learn_norms("", 0)).bytes(), 4 * 5 * 2 * 32);
  EXPECT_EQ(numbers(learn_norms(":which=gain", 0)).bytes(), 4 * 5 * 32);
  EXPECT_EQ(numbers(learn_norms(":which=bias", 0)).bytes(), 4 * 5 * 32);
  EXPECT_EQ(numbers(learn_norms(":block=8", 0)).bytes(), 4 * 5 * 2 * 4);
  EXPECT_EQ(numbers(learn_norms(":block=5", 0)).bytes(), 4 * 5 * 2 * 7);
  EXPECT_EQ(numbers(learn_norms(":block=1000", 0)).bytes(), 4 * 5 * 2);
}

TEST(NormTuning, ScalesGainsAndShiftsBiasesByBlocks) {
  Model model = learn_norms(":block=5", 0).model;
  State& own = model.numbers().at("norm-tuning", Scope::kTask);
  for (const auto& [name, number] : State(own)) own.set(name, Key(5).fold(name).normal({7}));
  const State weights = model.weights();
  const Backbone& backbone = model.backbone();
  int checked = 0;
  for (const auto& [name, number] : own) {
    const std::string slot = name.substr(name.find('@') + 1);
    const at::Tensor given = backbone.weight(backbone.anatomy().at(slot)), made = weights.tensor(slot);
    for (std::int64_t d = 0; d < 32; ++d, ++checked) {
      const double move = own.tensor(name)[d / 5].item<double>(), before = given[d].item<double>();
      const double expected = slot.ends_with(".weight") ? before * (1 + move) : before + move;
      EXPECT_NEAR(made[d].item<double>(), expected, 1e-6 * std::max(1.0, std::abs(expected))) << name << " " << d;
    }
  }
  EXPECT_EQ(checked, 5 * 2 * 32);
}

TEST(NormTuning, LeavesEverythingElseAlone) {
  const Learned learned = learn_norms("", 2);
  const State weights = learned.model.weights();
  const Backbone& backbone = learned.model.backbone();
  for (const Slot& slot : backbone.anatomy().slots) {
    if (slot.kind != SlotKind::kWeight && slot.kind != SlotKind::kVector) continue;
    const bool norm = slot.name.find("norm") != slot.name.npos;
    EXPECT_EQ(at::equal(weights.tensor(slot.name), backbone.weight(slot)), !norm) << slot.name;
  }
}

TEST(NormTuning, LeavesTheStatisticsOfBatchNormsAlone) {
  const auto backbone = make_backbone(toy_cnn());
  const Recipe recipe = toy_recipe(2);
  const Learned learned = learn(toy_model(backbone, recipe, {"norm-tuning"}), toy_task(), toy_sources(20), recipe, {});
  const State weights = learned.model.weights();
  int moved = 0;
  for (const Slot& slot : backbone->anatomy().slots) {
    if (slot.kind != SlotKind::kWeight && slot.kind != SlotKind::kVector) continue;
    const bool trains = slot.kind == SlotKind::kVector && !slot.statistic;
    EXPECT_EQ(at::equal(weights.tensor(slot.name), backbone->weight(slot)), !trains) << slot.name;
    moved += trains;
  }
  EXPECT_GT(moved, 10);
}

TEST(NormTuning, LearnsTheToyTask) {
  const double before = learn_norms("", 0).validation.loss;
  EXPECT_LT(learn_norms("", 5).validation.loss, before);
}

}  // namespace
}  // namespace recast
