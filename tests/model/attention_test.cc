#include "../../src/model/attention.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "model/made_weights.h"
#include "recast/base/key.h"

namespace recast {
namespace {

/// The definition, in double.
at::Tensor reference(const at::Tensor& qkv, std::int64_t heads) {
  const std::int64_t B = qkv.size(0), T = qkv.size(1), D = qkv.size(2) / 3;
  const at::Tensor x = qkv.to(at::kDouble).view({B, T, 3, heads, D / heads}).permute({2, 0, 3, 1, 4});
  const double scale = 1 / std::sqrt(static_cast<double>(D / heads));
  const at::Tensor shares = at::softmax(at::matmul(x[0], x[1].transpose(2, 3)) * scale, -1);
  return at::matmul(shares, x[2]).transpose(1, 2).reshape({B, T, D});
}

at::Tensor gradient(const at::Tensor& out, const at::Tensor& input, const at::Tensor& weights) {
  return torch::autograd::grad({(out * weights).sum()}, {input})[0];
}

struct Case {
  std::int64_t B, T, heads, width;
};
/// One image of one token; more heads than fit into a thread's share and fewer; token counts that no vector divides.
const std::vector<Case> kCases = {{1, 1, 1, 8}, {2, 5, 3, 12}, {3, 197, 6, 48}, {1, 300, 5, 40}, {7, 17, 2, 128}};

at::Tensor draw(const Case& c) {
  return Key(7).fold("qkv", static_cast<std::uint64_t>(c.T)).normal({c.B, c.T, 3 * c.width});
}

TEST(SelfAttention, GivesTheDefinitionsValuesAndGradients) {
  for (const Case& c : kCases) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      const at::Tensor input = draw(c).to(dtype).set_requires_grad(true);
      const at::Tensor exact = input.detach().to(at::kDouble).set_requires_grad(true);
      const at::Tensor weights = Key(8).normal({c.B, c.T, c.width});
      const at::Tensor out = self_attention(input, c.heads), wanted = reference(exact, c.heads);
      // Half a unit in the last place for each of the results that are stored on the way: scaled q, scores, shares,
      // mixed rows, and as many again backwards; fp32 sums of T products besides.
      const double unit = dtype == at::kFloat ? 0x1p-24 : 0x1p-9;
      const double tolerance = 8 * (unit + std::sqrt(static_cast<double>(c.T)) * 0x1p-24);
      EXPECT_EQ(out.scalar_type(), dtype);
      EXPECT_LT(relative_error(out.detach(), wanted.detach()), tolerance) << c.T << " tokens, " << dtype;
      const at::Tensor got = gradient(out, input, weights), true_gradient = gradient(wanted, exact, weights);
      EXPECT_LT(relative_error(got, true_gradient), 2 * tolerance) << c.T << " tokens, " << dtype;
    }
  }
}

TEST(SelfAttention, GivesTheSameValuesWithAndWithoutGradients) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const at::Tensor input = draw(kCases[2]).to(dtype);
    const at::Tensor recorded = self_attention(input.clone().set_requires_grad(true), 6).detach();
    const c10::AutoGradMode off(false);
    const at::Tensor plain = self_attention(input, 6);
    // bf16 may take another operator, rounded elsewhere: half a unit for each of four stored results, in both.
    EXPECT_LE(relative_error(plain, recorded.to(at::kDouble)), dtype == at::kFloat ? 0 : 8 * 0x1p-9);
    EXPECT_LE(relative_error(plain, reference(input, 6)), dtype == at::kFloat ? 1e-5 : 8 * 0x1p-9);
  }
}

TEST(SelfAttention, TreatsEachImageAlone) {
  const c10::AutoGradMode off(false);
  const at::Tensor input = draw(kCases[2]);
  const at::Tensor all = self_attention(input, 6);
  for (std::int64_t i = 0; i < input.size(0); ++i)
    EXPECT_TRUE(at::equal(self_attention(input.slice(0, i, i + 1), 6)[0], all[i])) << "image " << i;
}

TEST(SelfAttention, TakesRowsOfAnyStride) {
  const c10::AutoGradMode off(false);
  const at::Tensor input = draw(kCases[1]);
  const at::Tensor strided = input.transpose(0, 1).contiguous().transpose(0, 1);
  ASSERT_FALSE(strided.is_contiguous());
  EXPECT_TRUE(at::equal(self_attention(strided, 3), self_attention(input, 3)));
}

TEST(SelfAttention, CanBeDifferentiatedTwice) {
  const at::Tensor input = draw(kCases[1]).set_requires_grad(true);
  const at::Tensor exact = input.detach().to(at::kDouble).set_requires_grad(true);
  const auto twice = [](const at::Tensor& out, const at::Tensor& x) {
    const at::Tensor first = torch::autograd::grad({out.square().sum()}, {x}, {}, true, /*create_graph=*/true)[0];
    return torch::autograd::grad({first.square().sum()}, {x})[0];
  };
  EXPECT_LT(relative_error(twice(self_attention(input, 3), input), twice(reference(exact, 3), exact)), 1e-5);
}

}  // namespace
}  // namespace recast
