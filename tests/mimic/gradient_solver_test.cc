#include "../../src/mimic/gradient_solver.h"

#include <gtest/gtest.h>

#include "format/expect_error.h"
#include "mimic/solver_cases.h"

namespace recast {
namespace {
using ::testing::HasSubstr;

TEST(GradientSolver, DifferentiatesTheLossAsFiniteDifferencesDo) {
  // Weights of size 1, so that elements lie on both branches of SmoothL1.
  const at::Tensor weights = Key(1).normal({3, 40}).to(at::kDouble) * 2;
  const at::Tensor templates = Key(2).normal({2, 40}).to(at::kDouble), c = Key(3).normal({3, 2, 2}).to(at::kDouble);
  const auto loss = [&] { return differentiate(weights, templates, c, 2.5).loss; };
  const BankGradient gradient = differentiate(weights, templates, c, 2.5);
  const at::Tensor rebuilt = at::mm(c.mean(1), templates);
  const double expected = 2.5 * at::smooth_l1_loss(rebuilt, weights, at::Reduction::Mean).item<double>() * 3;
  EXPECT_NEAR(gradient.loss, expected, 1e-12 * expected);
  EXPECT_LT(finite_difference_error(templates, gradient.templates, loss), 1e-7);
  EXPECT_LT(finite_difference_error(c, gradient.coefficients, loss), 1e-7);
  EXPECT_NEAR(loss_of_nothing(weights, 2.5), differentiate(weights, templates, at::zeros_like(c), 2.5).loss, 1e-12);
}

TEST(GradientSolver, StartsOrthogonalAndKaimingNormal) {
  const at::Tensor wide = orthogonal(Key(5), 2, 2, 3).flatten(1), tall = orthogonal(Key(5), 9, 2, 2).flatten(1);
  EXPECT_LT(relative_difference(at::mm(wide, wide.t()), at::eye(2)), 1e-6);
  EXPECT_LT(relative_difference(at::mm(tall.t(), tall), at::eye(4)), 1e-6);
  EXPECT_NEAR(kaiming_normal(Key(5), 3, {64, 50}).std().item<double>(), std::sqrt(2.0 / 50), 0.01);
  EXPECT_NEAR(kaiming_normal(Key(5), 3, {64, 8, 3, 3}).std().item<double>(), std::sqrt(2.0 / 72), 0.01);
}

/// Two groups, one of them so large that the gradients are clipped.
std::vector<SolverGroup> two_groups() {
  std::vector<SolverGroup> groups = {random_group(3, 6, 5, 2, 11), random_group(2, 4, 8, 2, 12)};
  for (at::Tensor& weight : groups[1].weights) weight = weight * 200;
  groups[1].sets = 3;
  groups[1].loss_factor = 40;
  return groups;
}

TEST(GradientSolver, EveryStepEqualsPyTorch) {
  RECAST_NEED_PYTHON("torch, safetensors");
  constexpr std::int64_t kSteps = 12;
  TensorFile question{{}, {{"what", "gradient"}, {"groups", "2"}, {"steps", "12"}, {"rate", "0.1"}, {"drop", "5"}}};
  std::vector<GradientDescent::Bank> banks;
  std::vector<at::Tensor> noise;
  for (std::size_t g = 0; g < 2; ++g) {
    const SolverGroup group = two_groups()[g];
    const auto L = static_cast<std::int64_t>(group.weights.size());
    banks.push_back({stacked(group).to(at::kDouble),
                     kaiming_normal(Key(g), 2, group.weights[0].sizes()).to(at::kDouble),
                     orthogonal(Key(g), L, group.sets, 2).to(at::kDouble), group.loss_factor});
    noise.push_back(Key(g).fold("noise").normal({kSteps + 1, L, group.sets, 2}).to(at::kDouble) * 1e-4);
    const std::string n = std::to_string(g);
    question.tensors["W." + n] = banks[g].weights;
    question.tensors["T." + n] = banks[g].templates.clone();
    question.tensors["C." + n] = banks[g].coefficients.clone();
    question.tensors["noise." + n] = noise[g];
    question.metadata["factor." + n] = std::to_string(group.loss_factor);
  }
  const NamedTensors expected = python_reference("../mimic/solver_reference.py", question);

  GradientDescent descent(banks);
  std::vector<double> losses;
  for (std::int64_t step = 0;; ++step) {
    losses.push_back(descent.look({noise[0][step], noise[1][step]}));
    if (step == kSteps) break;
    descent.move(0.1 * std::pow(0.1, static_cast<double>(step / 5)));
  }
  EXPECT_LT(relative_difference(at::tensor(losses, at::kDouble), expected.at("losses")), 1e-9);
  for (std::size_t g = 0; g < 2; ++g) {
    EXPECT_LT(relative_difference(descent.templates()[g], expected.at("T." + std::to_string(g))), 1e-9);
    EXPECT_LT(relative_difference(descent.coefficients()[g], expected.at("C." + std::to_string(g))), 1e-9);
  }
}

TEST(GradientSolver, WholeRunWithItsScheduleAndBestStepEqualsPyTorch) {
  RECAST_NEED_PYTHON("torch, safetensors");
  constexpr std::int64_t kSteps = 30;
  const SolverGroup group = random_group(3, 6, 5, 2, 21);
  std::vector<at::Tensor> noise;
  for (std::uint64_t step = 0; step < kSteps; ++step)
    noise.push_back(Key(group.seed).fold("noise", step).normal({3, 2, 2}) * 1e-4);
  noise.push_back(at::zeros({3, 2, 2}));
  const NamedTensors expected = python_reference(
      "../mimic/solver_reference.py",
      {{{"W.0", stacked(group)},
        {"T.0", kaiming_normal(Key(group.seed), 2, {6, 5})},
        {"C.0", orthogonal(Key(group.seed), 3, 2, 2)},
        {"noise.0", at::stack(noise)}},
       {{"what", "gradient"}, {"groups", "1"}, {"steps", "30"}, {"rate", "0.1"}, {"drop", "6"}, {"factor.0", "2"}}});
  const BankSolution got = solve_alone("gradient", group, {.steps = kSteps});
  EXPECT_LT(relative_difference(got.templates.flatten(1), expected.at("best.T.0")), 1e-3);
  EXPECT_LT(relative_difference(got.coefficients, expected.at("best.C.0")), 1e-3);
}

TEST(GradientSolver, FindsAPlantedBank) {
  const SolverGroup group = planted_group(6, 2);
  const double error = error_left(group, solve_alone("gradient", group)),
               closed = error_left(group, solve_alone("closed", group));
  EXPECT_LT(error, 0.02);
  EXPECT_LT(closed, 1e-6);
  EXPECT_LE(closed, error);
}

TEST(GradientSolver, NeverBeatsTheClosedForm) {
  const SolverGroup group = random_group(5, 12, 10, 2);
  const double error = error_left(group, solve_alone("gradient", group)),
               closed = error_left(group, solve_alone("closed", group));
  EXPECT_LE(closed, error);
  EXPECT_LT(error, 1.05 * closed);  // and comes close to it
}

TEST(GradientSolver, DependsOnTheSeedAlone) {
  const BankSolution solution = expect_seed_decides("gradient", 100);
  EXPECT_FALSE(solution.coefficients.select(1, 0).equal(solution.coefficients.select(1, 1)));  // sets of their own
}

TEST(GradientSolver, TakesTheStepsThatThePaperTakes) {
  const auto steps_of = [](const SolverGroup& group) {
    std::vector<std::int64_t> seen;
    SolverSettings settings;
    settings.progress = [&](std::int64_t done, std::int64_t total) { seen.push_back(done), seen.push_back(total); };
    solve_alone("gradient", group, settings);
    EXPECT_EQ(seen.front(), 0);
    EXPECT_EQ(seen[seen.size() - 2], seen.back());
    return seen.back();
  };
  EXPECT_EQ(steps_of(planted_group(3, 2)), 1000);
  SolverGroup kernels = planted_group(3, 2);
  for (at::Tensor& weight : kernels.weights) weight = weight.reshape({4, 3, 2, 5});
  EXPECT_EQ(steps_of(kernels), 3000);
}

TEST(GradientSolver, StopsWhereItDivergesWithTheStepAndTheRemedy) {
  const SolverGroup group = random_group(3, 6, 5, 2);
  const std::string message = error_of(Code::kInvalidArgument, [&] { solve_alone("gradient", group, {.rate = 1e30}); });
  EXPECT_THAT(message, HasSubstr("[mimic] solver gradient diverged at step 1: its loss became"));
  EXPECT_THAT(message, HasSubstr("lower --rate (it was 1e+30)"));
  EXPECT_THAT(message, HasSubstr("--solver closed"));
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { solve_alone("gradient", group, {.steps = 1}); }),
              HasSubstr("after 1 steps its best loss"));
}

TEST(GradientSolver, StopsWhenAsked) {
  std::atomic<bool> stop = false;
  SolverSettings settings;
  settings.stop = &stop;
  settings.progress = [&](std::int64_t done, std::int64_t) { stop = done == 3; };
  EXPECT_THAT(error_of(Code::kCancelled, [&] { solve_alone("gradient", random_group(3, 6, 5, 2), settings); }),
              HasSubstr("at step 4 of 1000"));
}

TEST(ClosedSolver, RefusesStepsThatItWouldNotTake) {
  EXPECT_THAT(error_of(Code::kInvalidArgument, [] { solve_alone("closed", random_group(3, 6, 5, 2), {.steps = 5}); }),
              HasSubstr("closed takes no steps"));
}

}  // namespace
}  // namespace recast
