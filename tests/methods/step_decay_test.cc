// Step decay, and with it the recipe `paper` to the digit.
#include <gtest/gtest.h>

#include "conformance/toy_source.h"

namespace recast {
namespace {

TEST(Paper, IsTheDesignsRecipe) {
  const Recipe& paper = find_recipe("paper");
  EXPECT_EQ(paper.epochs, 100);
  EXPECT_EQ(paper.batch_size, 128);
  EXPECT_EQ(paper.rate, 2e-3);
  EXPECT_EQ(paper.head_rate, 2e-3);
  EXPECT_EQ(paper.weight_decay, 1e-6);
  EXPECT_EQ(paper.clip_norm, 1);
  EXPECT_EQ(paper.augmentation, "paper");
  EXPECT_EQ(paper.seeds, (std::vector<std::uint64_t>{42, 1998, 3142592}));
  EXPECT_FALSE(paper.fit_head);
  EXPECT_FALSE(paper.suggested_rates);
  EXPECT_FALSE(paper.bf16);
}

TEST(Paper, LearnsAtItsRatesAtEpochs0And33And66And99) {
  const Recipe& paper = find_recipe("paper");
  const Learned learned = learn(toy_model(toy_backbone(), paper, {"linear-probe"}), toy_task(),
                                {toy_source(4, 3, 1), toy_source(3, 3, 1, 100)}, paper, {});
  ASSERT_EQ(learned.history.size(), 100u);
  EXPECT_DOUBLE_EQ(learned.history[0].rate, 2e-3);
  EXPECT_DOUBLE_EQ(learned.history[32].rate, 2e-3);
  EXPECT_DOUBLE_EQ(learned.history[33].rate, 2e-4);
  EXPECT_DOUBLE_EQ(learned.history[65].rate, 2e-4);
  EXPECT_DOUBLE_EQ(learned.history[66].rate, 2e-5);
  EXPECT_DOUBLE_EQ(learned.history[98].rate, 2e-5);
  EXPECT_DOUBLE_EQ(learned.history[99].rate, 2e-6);
}

TEST(StepDecay, TakesItsOptions) {
  const auto method = Registry::instance().find("step-decay").make({{"every", "2"}, {"gamma", "0.5"}});
  const UpdateRule& rule = *method->roles().update;
  for (std::int64_t epoch = 0; epoch < 8; ++epoch)
    EXPECT_DOUBLE_EQ(rule.rate("group", 0, Counters{.epoch = epoch}), std::pow(0.5, epoch / 2));
}

}  // namespace
}  // namespace recast
