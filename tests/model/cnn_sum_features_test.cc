#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <numbers>

#include "model/made_weights.h"
#include "model/toy_cnn.h"
#include "recast/mimic/mimicry.h"
#include "recast/model/sum_features.h"

namespace recast {
namespace {

/// A network whose repeated convolutions are sums of two templates, by blocks of `rows` output channels.
struct Convolutions {
  explicit Convolutions(const CnnConfig& cnn, std::int64_t rows = 1 << 20)
      : backbone(make_backbone(mimic(toy_cnn(1, cnn), {.templates = 2}).files)) {
    for (const Slot& slot : backbone->anatomy().slots) {
      if (!slot.bank.defined()) continue;
      const Blocks blocks{std::min(rows, slot.shape[0]), false};
      const at::Tensor own = slot.coefficients.mean(0, true).expand({blocks.count(slot.shape), -1});
      sums[slot.name] = {(own + 0.3 * Key(5).fold(slot.name).normal(own.sizes())).contiguous().set_requires_grad(true),
                         blocks};
    }
  }

  const SumFeatures& function() const { return dynamic_cast<const SumFeatures&>(*backbone); }
  at::Tensor features(const at::Tensor& images, at::ScalarType dtype) const {
    return function().sum_features(images, sums, dtype);
  }

  std::shared_ptr<const Backbone> backbone;
  BankSums sums;
};

std::vector<CnnConfig> networks() {
  CnnConfig padded = toy_cnn_config();
  padded.shortcut = "pad";
  return {toy_cnn_config("basic"), toy_cnn_config("bottleneck"), toy_cnn_config("inverted"), padded};
}

/// As in sum_features_test.cc: 22 convolutions at most, of each the sum and what is added to it; sums of 9 x 32.
constexpr double kConvolutions = 22;
double tolerance_of_convolutions(at::ScalarType dtype) {
  const double unit = dtype == at::kFloat ? 0x1p-24 : 0x1p-9;
  return 3 * std::sqrt(2 * 2 * kConvolutions) * (unit + std::sqrt(9 * 32.0) * 0x1p-24);
}
/// An activation that is off by r of its size is on the other side of ReLU's kink with a chance of r / pi (two normal
/// variables), and its whole gradient then is wrong: of all layers together sqrt(layers r / pi). In fp32 that is too
/// seldom to happen among a few thousand numbers.
double tolerance_of_gradients(at::ScalarType dtype) {
  const double values = tolerance_of_convolutions(dtype);
  const double kinks = dtype == at::kFloat ? 0 : std::sqrt(kConvolutions * values / 3 / std::numbers::pi);
  return std::sqrt(2.0) * values + kinks;
}

TEST(CnnSumFeatures, GiveTheDefinitionsFeaturesAndGradients) {
  for (const CnnConfig& cnn : networks())
    for (const std::int64_t rows : {1 << 20, 3}) {
      const Convolutions network(cnn, rows);
      const std::string name = cnn.stages.back().block + ", " + cnn.shortcut;
      ASSERT_FALSE(network.sums.empty()) << name;
      const at::Tensor images = toy_images(3);
      const BankSums doubles = in_double(network.sums);
      const at::Tensor wanted = features_by_definition(*network.backbone, images.to(at::kDouble), doubles);
      const at::Tensor weights = Key(9).normal(wanted.sizes());
      const at::Tensor slopes = flat(torch::autograd::grad({(wanted * weights).sum()}, trained(doubles)));
      for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
        const at::Tensor features = network.features(images, dtype);
        EXPECT_EQ(features.scalar_type(), at::kFloat);
        const at::Tensor gradient = flat(torch::autograd::grad({(features * weights).sum()}, trained(network.sums)));
        EXPECT_LT(relative_error(features.detach(), wanted.detach()), tolerance_of_convolutions(dtype))
            << name << ", " << dtype;
        EXPECT_LT(relative_error(gradient, slopes), tolerance_of_gradients(dtype)) << name << ", " << dtype;
      }
    }
}

TEST(CnnSumFeatures, WithoutAGradientHaveTheSameBitsAndFollowTheCoefficients) {
  const Convolutions network(toy_cnn_config());
  const at::Tensor images = toy_images(4);
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const at::Tensor wanted = network.features(images, dtype).detach();
    const c10::NoGradGuard no_grad;
    for (int turn = 0; turn < 2; ++turn) EXPECT_TRUE(at::equal(network.features(images, dtype), wanted)) << dtype;
    for (const at::Tensor& c : trained(network.sums)) c.add_(0.1);
    const at::Tensor moved = network.features(images, dtype);
    EXPECT_LT(relative_error(moved, features_by_definition(*network.backbone, images, network.sums).to(at::kDouble)),
              2 * tolerance_of_convolutions(dtype));
    EXPECT_GT(relative_error(moved, wanted.to(at::kDouble)), 0.01);
    for (const at::Tensor& c : trained(network.sums)) c.sub_(0.1);
  }
}

TEST(CnnSumFeatures, OfARowDependNeitherOnTheOthersNorOnThreads) {
  const int threads = at::get_num_threads();
  for (const CnnConfig& cnn : networks()) {
    const Convolutions network(cnn);
    const at::Tensor images = toy_images(5);
    const c10::NoGradGuard no_grad;
    at::set_num_threads(1);
    const at::Tensor together = network.features(images, at::kFloat);
    EXPECT_TRUE(at::equal(network.features(images.slice(0, 1, 2), at::kFloat), together.slice(0, 1, 2)))
        << cnn.stages.back().block;
    at::set_num_threads(3);
    EXPECT_TRUE(at::equal(network.features(images, at::kFloat), together)) << cnn.stages.back().block;
  }
  at::set_num_threads(threads);
}

TEST(CnnSumFeatures, SayWhyThereAreNone) {
  const Convolutions network(toy_cnn_config());
  const auto why = [&](const at::Tensor& images, at::ScalarType dtype) {
    return network.function().why_no_sum_features(images, network.sums, dtype);
  };
  EXPECT_EQ(why(toy_images(2), at::kFloat), "");
  EXPECT_NE(why(toy_images(2).to(at::kDouble), at::kFloat), "");
  EXPECT_NE(why(toy_images(2), at::kHalf), "");
  EXPECT_NE(why(toy_images(0), at::kFloat), "");
}

}  // namespace
}  // namespace recast
