#include "../../src/model/linear.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "recast/base/key.h"

namespace recast {
namespace {

struct LinearCase {
  std::vector<std::int64_t> input;
  std::int64_t out;
};
const std::vector<LinearCase> kLinearCases = {
    {{1, 1}, 1}, {{3, 37}, 10}, {{2, 197, 384}, 1152}, {{0, 5, 16}, 8}, {{197, 1536}, 384}};

at::Tensor draw(const char* name, at::IntArrayRef shape, at::ScalarType dtype) {
  return Key(3).fold(name).normal(shape).to(dtype);
}

TEST(Linear, GivesTheBitsOfTheLibrarysOperatorWithAndWithoutGradients) {
  for (const LinearCase& c : kLinearCases) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      const at::Tensor x = draw("x", c.input, dtype);
      const at::Tensor weight = draw("weight", {c.out, c.input.back()}, at::kFloat);
      const at::Tensor bias = draw("bias", {c.out}, at::kFloat);
      const at::Tensor wanted = at::linear(x, weight.to(dtype), bias.to(dtype));
      EXPECT_TRUE(at::equal(linear(x, weight, bias), wanted)) << x.sizes() << " " << dtype;
      const at::Tensor recorded = linear(x, weight.clone().set_requires_grad(true), bias);
      EXPECT_TRUE(at::equal(recorded.detach(), wanted)) << x.sizes() << " " << dtype;
    }
  }
}

TEST(Linear, PassesGradientsOnToInputWeightAndBias) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    std::vector<at::Tensor> inputs = {draw("x", {6, 40}, dtype), draw("weight", {9, 40}, at::kFloat),
                                      draw("bias", {9}, at::kFloat)};
    for (const at::Tensor& input : inputs) {  // each alone
      input.set_requires_grad(true);
      const at::Tensor out = linear(inputs[0], inputs[1], inputs[2]);
      const at::Tensor wanted = at::linear(inputs[0], inputs[1].to(dtype), inputs[2].to(dtype));
      ASSERT_TRUE(out.requires_grad());
      EXPECT_TRUE(
          at::equal(torch::autograd::grad({out.sum()}, {input})[0], torch::autograd::grad({wanted.sum()}, {input})[0]));
      input.set_requires_grad(false);
    }
  }
}

TEST(Linear, GivesARowTheSameBitsWhateverTheOthers) {
  const at::Tensor x = draw("x", {64, 384}, at::kBFloat16), weight = draw("weight", {96, 384}, at::kFloat);
  const at::Tensor bias = draw("bias", {96}, at::kFloat), all = linear(x, weight, bias);
  for (const std::int64_t row : {0, 31, 63})
    EXPECT_TRUE(at::equal(linear(x.slice(0, row, row + 1), weight, bias)[0], all[row])) << "row " << row;
}

}  // namespace
}  // namespace recast
