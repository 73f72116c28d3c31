// Weights from templates block by block: bits, gradients of both orders, odd sizes, refusals.
#include "recast/model/blockwise_sum.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "format/expect_error.h"
#include "recast/base/key.h"

namespace recast {
namespace {

struct SumCase {
  std::vector<std::int64_t> shape;
  Blocks blocks;
};
/// Matrices and kernels, blocks that fit and that do not, one block, one line a block, more than one chunk.
const std::vector<SumCase> kSumCases = {
    {{1152, 384}, {64, false}},  {{384, 1536}, {64, true}},  {{70, 33}, {64, false}},   {{33, 70}, {64, true}},
    {{5, 7}, {1, false}},        {{5, 7}, {1, true}},        {{64, 96}, {1000, false}}, {{64, 16, 3, 3}, {16, false}},
    {{24, 1, 5, 5}, {7, false}}, {{6, 10, 3, 3}, {4, true}}, {{1, 1}, {1, false}}};

at::Tensor draw(const char* name, at::IntArrayRef shape) { return Key(3).fold(name).normal(shape).to(at::kDouble); }

at::Tensor draw_templates(const SumCase& c, std::int64_t n) {
  std::vector<std::int64_t> shape = c.shape;
  shape.insert(shape.begin(), n);
  return draw("templates", shape);
}

at::Tensor draw_coefficients(const SumCase& c, std::int64_t n) {
  return draw("coefficients", {c.blocks.count(c.shape), n});
}

/// From the definition, a row or column at a time.
at::Tensor by_lines(const at::Tensor& templates, const at::Tensor& coefficients, const Blocks& blocks) {
  at::Tensor made = at::zeros(templates.sizes().slice(1), templates.options());
  const std::int64_t side = blocks.of_columns ? 1 : 0;
  for (std::int64_t line = 0; line < made.size(side); ++line)
    for (std::int64_t i = 0; i < templates.size(0); ++i)
      made.select(side, line).add_(templates[i].select(side, line) * coefficients[line / blocks.length][i]);
  return made;
}

/// Rounding of sums of n terms of the size of theirs.
double allowed(const at::Tensor& expected, at::ScalarType dtype) {
  const double epsilon = dtype == at::kDouble ? 1e-15 : 1e-6;
  return epsilon * expected.abs().max().item<double>();
}

TEST(BlockwiseSum, IsTheSumLineByLine) {
  for (const SumCase& c : kSumCases)
    for (const std::int64_t n : {1, 2, 5}) {
      const at::Tensor templates = draw_templates(c, n), coefficients = draw_coefficients(c, n);
      const at::Tensor expected = by_lines(templates, coefficients, c.blocks);
      for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
        const at::Tensor made = blockwise_sum(templates.to(dtype), coefficients.to(dtype), c.blocks);
        ASSERT_EQ(made.sizes(), at::IntArrayRef(c.shape));
        EXPECT_LE((made.to(at::kDouble) - expected).abs().max().item<double>(), 4 * allowed(expected, dtype))
            << made.sizes() << " n " << n;
      }
    }
}

TEST(BlockwiseSum, OneHotCoefficientsGiveATemplatesOwnBits) {
  for (const SumCase& c : kSumCases) {
    at::Tensor templates = draw_templates(c, 3).to(at::kFloat);
    templates.view({-1})[0] = -0.0;
    for (std::int64_t i = 0; i < 3; ++i) {
      at::Tensor coefficients = at::zeros({c.blocks.count(c.shape), 3});
      coefficients.select(1, i).fill_(1);
      const at::Tensor made = blockwise_sum(templates, coefficients, c.blocks);
      EXPECT_TRUE(at::equal(made.view(at::kInt), templates[i].contiguous().view(at::kInt))) << made.sizes();
    }
  }
}

TEST(BlockwiseSum, GivesZeroWhereAllCoefficientsAreZero) {
  const at::Tensor made = blockwise_sum(at::ones({2, 70, 3}), at::zeros({2, 2}), {64, false});
  EXPECT_TRUE(at::equal(made, at::zeros({70, 3})));
}

/// The map is linear in c, so that a difference has no truncation error, whatever its step.
TEST(BlockwiseSum, GradientsAreThoseOfDifferences) {
  for (const SumCase& c : kSumCases) {
    const std::int64_t n = 3;
    const at::Tensor templates = draw_templates(c, n), weights = draw("weights", c.shape);
    const at::Tensor coefficients = draw_coefficients(c, n).set_requires_grad(true);
    const auto loss = [&](const at::Tensor& at) { return (blockwise_sum(templates, at, c.blocks) * weights).sum(); };
    const at::Tensor gradient = torch::autograd::grad({loss(coefficients)}, {coefficients})[0];
    const at::Tensor direction = draw("direction", coefficients.sizes());
    const at::Tensor plain = coefficients.detach();
    const double difference = (loss(plain + direction) - loss(plain - direction)).item<double>() / 2;
    EXPECT_NEAR((gradient * direction).sum().item<double>(), difference, 1e-9 * std::max(1.0, std::abs(difference)));
  }
}

/// L = |W(c)|^2 / 2 has the second derivative T^T T.
TEST(BlockwiseSum, CanBeDifferentiatedTwice) {
  for (const SumCase& c : kSumCases) {
    const at::Tensor templates = draw_templates(c, 2);
    const at::Tensor coefficients = draw_coefficients(c, 2).set_requires_grad(true);
    const at::Tensor direction = draw("direction", coefficients.sizes());
    const at::Tensor loss = blockwise_sum(templates, coefficients, c.blocks).square().sum() / 2;
    const at::Tensor first = torch::autograd::grad({loss}, {coefficients}, {}, true, /*create_graph=*/true)[0];
    const at::Tensor second = torch::autograd::grad({(first * direction).sum()}, {coefficients})[0];
    const at::Tensor along = by_lines(templates, direction, c.blocks);
    const at::Tensor probe = draw("probe", coefficients.sizes());
    const double expected = (along * by_lines(templates, probe, c.blocks)).sum().item<double>();
    EXPECT_NEAR((second * probe).sum().item<double>(), expected,
                1e-9 * std::max(1.0, along.square().sum().item<double>()));
  }
}

TEST(BlockwiseSum, DoesNotDependOnTheNumberOfThreads) {
  const SumCase& c = kSumCases[0];
  const at::Tensor templates = draw_templates(c, 2).to(at::kFloat), g = draw("g", c.shape).to(at::kFloat);
  const at::Tensor coefficients = draw_coefficients(c, 2).to(at::kFloat).set_requires_grad(true);
  const int before = at::get_num_threads();
  std::vector<at::Tensor> made, gradients;
  for (const int threads : {1, 2, 3}) {
    at::set_num_threads(threads);
    made.push_back(blockwise_sum(templates, coefficients, c.blocks));
    gradients.push_back(torch::autograd::grad({made.back()}, {coefficients}, {g})[0]);
  }
  at::set_num_threads(before);
  for (std::size_t i = 1; i < made.size(); ++i) {
    EXPECT_TRUE(at::equal(made[0], made[i]));
    EXPECT_TRUE(at::equal(gradients[0], gradients[i]));
  }
}

TEST(BlockwiseSum, AgreesWithThePlainOperators) {
  for (const SumCase& c : kSumCases) {
    // A stack that is not contiguous goes the way that other devices go.
    const at::Tensor templates = draw_templates(c, 2), g = draw("g", c.shape);
    const at::Tensor spread = at::stack({templates, templates}, -1).select(-1, 0);
    const at::Tensor coefficients = draw_coefficients(c, 2).set_requires_grad(true);
    const at::Tensor ours = blockwise_sum(templates, coefficients, c.blocks);
    const at::Tensor plain = blockwise_sum(spread, coefficients, c.blocks);
    EXPECT_TRUE(at::allclose(ours, plain, 1e-12, 1e-12));
    EXPECT_TRUE(at::allclose(torch::autograd::grad({ours}, {coefficients}, {g})[0],
                             torch::autograd::grad({plain}, {coefficients}, {g})[0], 1e-9, 1e-9));
  }
}

TEST(BlockwiseSum, RefusesWhatDoesNotFit) {
  const at::Tensor templates = at::ones({2, 6, 4});
  error_of(Code::kShapeMismatch, [&] { blockwise_sum(templates, at::ones({1, 2}), {4, false}); });
  error_of(Code::kShapeMismatch, [&] { blockwise_sum(templates, at::ones({2, 3}), {4, false}); });
  error_of(Code::kShapeMismatch, [&] { blockwise_sum(templates, at::ones({2, 2}).to(at::kDouble), {4, false}); });
  error_of(Code::kShapeMismatch, [&] { blockwise_sum(at::ones({2}), at::ones({1, 2}), {4, false}); });
  error_of(Code::kShapeMismatch, [&] { blockwise_sum(at::ones({2, 6}), at::ones({1, 2}), {4, true}); });
  error_of(Code::kInvalidArgument, [&] { blockwise_sum(templates, at::ones({2, 2}), {0, false}); });
}

}  // namespace
}  // namespace recast
