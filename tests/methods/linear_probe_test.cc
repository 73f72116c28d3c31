// Linear probe: columns of their own, growth, taking over a fitted classifier.
#include <gtest/gtest.h>

#include "conformance/toy_source.h"

namespace recast {
namespace {

Learned learn_probe(const Recipe& recipe, std::int64_t classes, const Numbers& start = {}) {
  Model model = toy_model(toy_backbone(), recipe, {"linear-probe"});
  model.numbers() = start;
  return learn(model, toy_task("probe", classes), toy_sources(20, classes), recipe, {});
}
at::Tensor weight(const Learned& learned) {
  return learned.model.numbers().at("linear-probe", Scope::kTask).tensor("weight");
}

TEST(LinearProbe, StartsAsTorchsLinearLayersDo) {
  const at::Tensor w = weight(learn_probe(toy_recipe(0), 40));
  const double bound = 1 / std::sqrt(32.0);
  EXPECT_EQ(w.sizes(), (at::IntArrayRef{40, 32}));
  EXPECT_LE(w.abs().max().item<double>(), bound);
  EXPECT_GT(w.abs().max().item<double>(), 0.99 * bound);
  EXPECT_NEAR(w.mean().item<double>(), 0, 5 * bound / std::sqrt(3.0 * 1280));
}

TEST(LinearProbe, AColumnDoesNotDependOnHowManyThereAre) {
  EXPECT_TRUE(at::equal(weight(learn_probe(toy_recipe(0), 3)), weight(learn_probe(toy_recipe(0), 5)).narrow(0, 0, 3)));
}

TEST(LinearProbe, GrowsWithoutTouchingLearnedColumns) {
  const Learned first = learn_probe(toy_recipe(2), 3);
  const Learned grown = learn_probe(toy_recipe(0), 5, first.model.numbers());
  EXPECT_TRUE(at::equal(weight(grown).narrow(0, 0, 3), weight(first)));
  EXPECT_TRUE(at::equal(weight(grown).narrow(0, 3, 2), weight(learn_probe(toy_recipe(0), 5)).narrow(0, 3, 2)));
}

TEST(LinearProbe, TakesOverAFittedClassifierAndLearnsTheToyTask) {
  Recipe fitted = toy_recipe(2);
  fitted.fit_head = true;
  const Learned learned = learn_probe(fitted, 3);
  EXPECT_EQ(learned.kept, "head") << "with nothing else to train the epochs are not run";
  EXPECT_EQ(learned.validation.top1, 1);
}

}  // namespace
}  // namespace recast
