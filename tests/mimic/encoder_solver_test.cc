#include "../../src/mimic/encoder_solver.h"

#include <gtest/gtest.h>

#include "format/expect_error.h"
#include "mimic/solver_cases.h"

namespace recast {
namespace {
using ::testing::HasSubstr;

Encoder double_encoder(std::uint64_t seed, std::int64_t elements, std::int64_t outputs) {
  std::array<Encoder::Layer, 3> layers;
  const std::vector<at::Tensor> params = Encoder(Key(seed), elements, outputs).params();
  for (std::size_t i = 0; i < 3; ++i) layers[i] = {params[2 * i].to(at::kDouble), params[2 * i + 1].to(at::kDouble)};
  return Encoder(layers);
}

TEST(EncoderSolver, DifferentiatesItsEncoderAsFiniteDifferencesDo) {
  const at::Tensor weights = Key(1).normal({4, 30}).to(at::kDouble), templates = Key(2).normal({2, 30}).to(at::kDouble);
  Encoder encoder = double_encoder(3, 30, 6);
  const auto loss = [&] { return differentiate(weights, templates, encoder.encode(weights).view({4, 3, 2}), 1).loss; };
  loss();
  const BankGradient bank = differentiate(weights, templates, encoder.encode(weights).view({4, 3, 2}), 1);
  const std::vector<at::Tensor> params = encoder.params(),
                                gradients = encoder.gradients(bank.coefficients.view({4, 6}));
  ASSERT_EQ(gradients.size(), params.size());
  for (std::size_t i = 0; i < params.size(); ++i)
    EXPECT_LT(finite_difference_error(params[i], gradients[i], loss), 1e-6) << i;
}

TEST(EncoderSolver, EveryStepEqualsPyTorch) {
  RECAST_NEED_PYTHON("torch, safetensors");
  constexpr std::int64_t kSteps = 12, K = 2, n = 2;
  const at::Tensor weights = stacked(random_group(3, 6, 5, n)).to(at::kDouble);
  const at::Tensor templates = kaiming_normal(Key(1), n, {6, 5}).to(at::kDouble);
  Encoder encoder = double_encoder(2, 30, K * n);
  TensorFile question{{{"W.0", weights}, {"T.0", templates.clone()}},
                      {{"what", "encoder"}, {"groups", "1"}, {"steps", "12"}, {"rate", "0.002"}}};
  std::vector<at::Tensor> params = encoder.params();
  for (std::size_t i = 0; i < params.size(); ++i) question.tensors["E.0." + std::to_string(i)] = params[i].clone();
  const NamedTensors expected = python_reference("../mimic/solver_reference.py", question);

  params.push_back(templates);
  RmsProp optimiser;
  std::vector<double> losses;
  for (std::int64_t step = 0;; ++step) {
    const BankGradient bank = differentiate(weights, templates, encoder.encode(weights).view({3, K, n}), 1);
    losses.push_back(bank.loss);
    if (step == kSteps) break;
    std::vector<at::Tensor> gradients = encoder.gradients(bank.coefficients.view({3, K * n}));
    gradients.push_back(bank.templates);
    optimiser.step(params, gradients, 0.001 * (1 + std::cos(M_PI * static_cast<double>(step) / kSteps)));
  }
  EXPECT_LT(relative_difference(at::tensor(losses, at::kDouble), expected.at("losses")), 1e-9);
  EXPECT_LT(relative_difference(templates, expected.at("T.0")), 1e-9);
  EXPECT_LT(relative_difference(encoder.encode(weights).view({3, K, n}), expected.at("C.0")), 1e-9);
}

TEST(EncoderSolver, WholeRunWithItsScheduleAndBestStepEqualsPyTorch) {
  RECAST_NEED_PYTHON("torch, safetensors");
  const SolverGroup group = random_group(3, 6, 5, 2, 21);
  TensorFile question{{{"W.0", stacked(group)}, {"T.0", kaiming_normal(Key(group.seed), 2, {6, 5})}},
                      {{"what", "encoder"}, {"groups", "1"}, {"steps", "60"}, {"rate", "0.002"}}};
  const std::vector<at::Tensor> params = Encoder(Key(group.seed).fold("encoder"), 30, 4).params();
  for (std::size_t i = 0; i < params.size(); ++i) question.tensors["E.0." + std::to_string(i)] = params[i];
  const NamedTensors expected = python_reference("../mimic/solver_reference.py", question);
  const BankSolution got = solve_alone("encoder", group, {.steps = 60});
  EXPECT_LT(relative_difference(got.templates.flatten(1), expected.at("best.T.0")), 1e-3);
  EXPECT_LT(relative_difference(got.coefficients, expected.at("best.C.0")), 1e-3);
}

TEST(EncoderSolver, FindsAPlantedBank) {
  const SolverGroup group = planted_group(4, 2);
  const double error = error_left(group, solve_alone("encoder", group));
  EXPECT_LT(error, 0.05);
  EXPECT_LE(error_left(group, solve_alone("closed", group)), error);
}

TEST(EncoderSolver, DependsOnTheSeedAlone) { expect_seed_decides("encoder", 300); }

TEST(EncoderSolver, GoesThroughAllGroupsAndNamesTheOneThatDiverges) {
  std::vector<SolverGroup> groups = {planted_group(3, 2), planted_group(3, 2, 9)};
  groups[1].name = "second";
  std::int64_t last = 0, all = 0;
  SolverSettings settings{.steps = 400};
  settings.progress = [&](std::int64_t done, std::int64_t total) { last = done, all = total; };
  EXPECT_EQ(mimicry_solver("encoder").solve(groups, settings).size(), 2U);
  EXPECT_EQ(last, 800);
  EXPECT_EQ(all, 800);
  const std::string message =
      error_of(Code::kInvalidArgument, [&] { solve_alone("encoder", groups[1], {.rate = 1e30}); });
  EXPECT_THAT(message, HasSubstr("solver encoder (bank second) diverged at step 1: its loss became"));
  EXPECT_THAT(message, HasSubstr("lower --rate (it was 1e+30)"));
}

}  // namespace
}  // namespace recast
