// Cross-entropy: soft labels, weights, smoothing. The loss is asked inside a real training step.
#include <gtest/gtest.h>

#include "methods/with_step.h"

namespace recast {
namespace {

struct Answer {
  double loss;
  at::Tensor gradient;  ///< [B, C], of the logits
};

Answer ask(const std::string& plug, const at::Tensor& logits, const Batch& batch) {
  Answer answer{};
  run_steps(1, {plug}, toy_recipe(), [&](Step& step) {
    const PlugSpec spec = parse_plug(plug);
    const auto method = Registry::instance().find(spec.method).make(spec.options);
    at::Tensor z = logits.clone().set_requires_grad(true);
    const at::Tensor loss = method->roles().loss->loss(batch, {{"logits", z}}, step);
    EXPECT_EQ(loss.scalar_type(), at::kFloat);
    EXPECT_EQ(loss.dim(), 0);
    EXPECT_FALSE(z.grad().defined()) << "loss() called backward";
    loss.backward();
    answer = {loss.item<double>(), z.grad().clone()};
  });
  return answer;
}

at::Tensor logits() { return Key(1).fold("logits").normal({4, 3}); }
at::Tensor labels() { return at::tensor({0, 2, 1, 2}, at::kLong); }

TEST(CrossEntropy, IsTheMeanOfMinusLogP) {
  const Answer answer = ask("ce", logits(), {{{"label", labels()}}, 4});
  const at::Tensor p = at::softmax(logits().to(at::kDouble), 1);
  const at::Tensor hot = at::one_hot(labels(), 3).to(at::kDouble);
  EXPECT_NEAR(answer.loss, -(p.log() * hot).sum().item<double>() / 4, 1e-6);
  EXPECT_LE((answer.gradient - (p - hot) / 4).abs().max().item<double>(), 1e-6);
}

TEST(CrossEntropy, SoftLabelsGoBeforeHardOnes) {
  const at::Tensor target = at::softmax(Key(2).fold("target").normal({4, 3}), 1);
  const Answer soft = ask("ce", logits(), {{{"target", target}, {"label", labels()}}, 4});
  const at::Tensor p = at::softmax(logits().to(at::kDouble), 1);
  EXPECT_NEAR(soft.loss, -(p.log() * target).sum().item<double>() / 4, 1e-6);
  const Answer hot = ask("ce", logits(), {{{"target", at::one_hot(labels(), 3).to(at::kFloat)}}, 4});
  EXPECT_NEAR(hot.loss, ask("ce", logits(), {{{"label", labels()}}, 4}).loss, 1e-6);
}

TEST(CrossEntropy, RowsOfWeightZeroDoNotMatterWhateverTheyHold) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  at::Tensor spoilt = logits(), target = at::one_hot(labels(), 3).to(at::kFloat), label = labels();
  spoilt[1].fill_(nan);
  target[1].fill_(nan);
  label[1] = -7;
  const at::Tensor weight = at::tensor({2.0f, 0.0f, 1.0f, 1.0f}), kept = at::tensor({0, 2, 3}, at::kLong);
  for (const bool soft : {false, true}) {
    const auto rows = [&](const at::Tensor& l, const at::Tensor& t, const at::Tensor& w) {
      return Batch{{{"weight", w}, soft ? std::pair{"target", t} : std::pair{"label", l}}, w.size(0)};
    };
    const Answer with = ask("ce:smoothing=0.1", spoilt, rows(label, target, weight));
    const Answer without =
        ask("ce:smoothing=0.1", logits().index_select(0, kept),
            rows(labels().index_select(0, kept), at::one_hot(labels(), 3).to(at::kFloat).index_select(0, kept),
                 weight.index_select(0, kept)));
    EXPECT_NEAR(with.loss, without.loss, 1e-6);
    EXPECT_LE((with.gradient.index_select(0, kept) - without.gradient).abs().max().item<double>(), 1e-6);
    EXPECT_EQ(with.gradient[1].abs().max().item<double>(), 0);
  }
}

TEST(CrossEntropy, NoRowOfWeightGivesZero) {
  const Answer answer = ask("ce", logits(), {{{"label", labels()}, {"weight", at::zeros({4})}}, 4});
  EXPECT_EQ(answer.loss, 0);
  EXPECT_EQ(answer.gradient.abs().max().item<double>(), 0);
}

TEST(CrossEntropy, SmoothingSpreadsTheTruthEvenly) {
  const double s = 0.3;
  const at::Tensor target = at::one_hot(labels(), 3).to(at::kFloat) * (1 - s) + s / 3;
  EXPECT_NEAR(ask("ce:smoothing=0.3", logits(), {{{"label", labels()}}, 4}).loss,
              ask("ce", logits(), {{{"target", target}}, 4}).loss, 1e-6);
}

}  // namespace
}  // namespace recast
