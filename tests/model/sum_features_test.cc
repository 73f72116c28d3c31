#include "recast/model/sum_features.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <thread>

#include "model/made_weights.h"
#include "model/toy_vit.h"
#include "recast/mimic/mimicry.h"
#include "recast/model/backbone.h"

namespace recast {
namespace {

/// A network and the weights that a task makes of its templates.
struct FeatureCase {
  std::string name;
  VitConfig vit;
  std::string target = "all";
  std::int64_t block = 1 << 20;  ///< rows or columns that share a coefficient
  std::int64_t from = 0;         ///< first block whose coefficients train
  std::int64_t templates = 2;
};

VitConfig network(const std::string& pooling, std::int64_t depth = 2) {
  VitConfig vit = toy_vit_config(depth);
  vit.pooling = pooling;
  return vit;
}

std::vector<FeatureCase> cases() {
  VitConfig scaled = network("token+average", 3);
  scaled.layer_scale = true;
  scaled.register_tokens = 2;
  VitConfig bare = network("average");
  bare.class_token = bare.class_position = false;
  bare.qkv_bias = false;
  VitConfig wide = network("token");  // no multiple of a panel of 64, a tile of 16 or a pair of panels
  wide.width = 72;
  wide.heads = 3;
  wide.mlp_width = 136;
  VitConfig odd = network("token");  // fp32 alone
  odd.width = 33;
  odd.heads = 3;
  odd.mlp_width = 51;
  return {{"a coefficient a slot, qkv alone", network("token"), "attn"},
          {"a coefficient a slot, three templates", network("token", 3), "all", 1 << 20, 0, 3},
          {"blocks of 8", network("token"), "all", 8},
          {"blocks that do not divide, the last block alone", scaled, "all", 7, 2},
          {"no class token, no bias", bare, "mlp", 8},
          {"widths of no whole panel", wide, "all", 9, 1},
          {"odd widths", odd, "all", 5}};
}

class Setting {
 public:
  explicit Setting(const FeatureCase& c)
      : backbone(make_backbone(
            mimic(toy_vit(1, c.vit), {.target = c.target, .groups = 1, .templates = c.templates}).files)) {
    for (const Slot& slot : backbone->anatomy().slots) {
      if (!slot.bank.defined()) continue;
      const bool of_columns = slot.role == "attn.proj" || slot.role == "mlp.fc2";
      const Blocks blocks{std::min(c.block, slot.shape[of_columns ? 1 : 0]), of_columns};
      const at::Tensor own = slot.coefficients.mean(0, true).expand({blocks.count(slot.shape), -1});
      const at::Tensor moved = own + 0.3 * Key(5).fold(slot.name).normal(own.sizes());
      const bool trains = std::stoll(slot.name.substr(7)) >= c.from;
      sums[slot.name] = {moved.contiguous().set_requires_grad(trains), blocks};
    }
  }

  const SumFeatures& function() const { return dynamic_cast<const SumFeatures&>(*backbone); }

  std::vector<at::Tensor> trained() const { return recast::trained(sums); }

  std::shared_ptr<const Backbone> backbone;
  BankSums sums;
};

at::Tensor definition(const Setting& setting, const at::Tensor& images, const BankSums& sums) {
  return features_by_definition(*setting.backbone, images, sums);
}

/// What bench/agreement.py tolerates of the size of the features, N = 12 results a block and 3 besides, sums of the
/// MLP's width: 3 sqrt(2 N) (u + sqrt(K) 2^-24). A gradient has gone through twice as many.
double tolerance(const VitConfig& vit, at::ScalarType dtype) {
  const double unit = dtype == at::kFloat ? 0x1p-24 : 0x1p-9;
  const double results = static_cast<double>(12 * vit.depth + 3);
  return 3 * std::sqrt(2 * results) * (unit + std::sqrt(static_cast<double>(vit.mlp_width)) * 0x1p-24);
}

bool there(const Setting& setting, const at::Tensor& images, at::ScalarType dtype) {
  return setting.function().why_no_sum_features(images, setting.sums, dtype).empty();
}

/// The features as a function of the images alone.
auto in_fp32(const Setting& setting) {
  return [&setting](const at::Tensor& images) {
    return setting.function().sum_features(images, setting.sums, at::kFloat);
  };
}

at::Tensor slopes_of(const at::Tensor& features, const std::vector<at::Tensor>& coefficients,
                     bool create_graph = false) {
  return flat(torch::autograd::grad({features.sum()}, coefficients, {}, /*retain_graph=*/true, create_graph)).detach();
}

TEST(SumFeatures, AreThereOnAProcessorWithAvx2) {
  if (!at::get_cpu_capability().starts_with("AVX")) GTEST_SKIP() << "has none";
  const Setting setting(cases()[0]);
  EXPECT_EQ(setting.function().why_no_sum_features(toy_images(2), setting.sums, at::kFloat), "");
}

TEST(SumFeatures, GiveTheDefinitionsFeaturesAndGradients) {
  for (const FeatureCase& c : cases()) {
    const Setting setting(c);
    const at::Tensor images = toy_images(3);
    const BankSums doubles = in_double(setting.sums);
    const at::Tensor wanted = definition(setting, images.to(at::kDouble), doubles);
    const at::Tensor weights = Key(9).normal(wanted.sizes());
    const at::Tensor slopes = flat(torch::autograd::grad({(wanted * weights).sum()}, trained(doubles)));
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      if (!there(setting, images, dtype)) continue;  // a processor without; another test says that this one has it
      const at::Tensor features = setting.function().sum_features(images, setting.sums, dtype);
      const at::Tensor gradient = flat(torch::autograd::grad({(features * weights).sum()}, setting.trained()));
      EXPECT_LT(relative_error(features.detach(), wanted.detach()), tolerance(c.vit, dtype)) << c.name << ", " << dtype;
      EXPECT_LT(relative_error(gradient, slopes), std::sqrt(2.0) * tolerance(c.vit, dtype)) << c.name << ", " << dtype;
    }
  }
}

TEST(SumFeatures, GradientsAreThoseOfDifferences) {
  const FeatureCase c = cases()[2];
  const Setting setting(c);
  const at::Tensor images = toy_images(2);
  if (!there(setting, images, at::kFloat)) GTEST_SKIP() << "no products of fp32";
  const at::Tensor features = setting.function().sum_features(images, setting.sums, at::kFloat);
  const at::Tensor weights = Key(9).normal(features.sizes());
  const std::vector<at::Tensor> gradients = torch::autograd::grad({(features * weights).sum()}, trained(setting.sums));
  const c10::NoGradGuard no_grad;
  std::size_t i = 0;
  for (const auto& [name, sum] : setting.sums) {
    const at::Tensor step = Key(4).fold(name).normal(sum.coefficients.sizes()).to(at::kDouble) * 1e-4;
    const auto loss = [&](double sign) {
      BankSums moved = in_double(setting.sums);
      moved.at(name).coefficients.add_(step, sign);
      return (definition(setting, images.to(at::kDouble), moved) * weights).sum().item<double>();
    };
    const double numeric = (loss(1) - loss(-1)) / 2, analytic = (gradients[i++] * step).sum().item<double>();
    // The step's third order, and the rounding of fp32 in what the gradient is made of.
    EXPECT_NEAR(analytic, numeric, 1e-4 * gradients[i - 1].norm().item<double>() * step.norm().item<double>()) << name;
  }
}

TEST(SumFeatures, OfARowDependNeitherOnTheOthersNorOnThreads) {
  const int threads = at::get_num_threads();
  for (const FeatureCase& c : cases()) {
    const Setting setting(c);
    const at::Tensor images = toy_images(5);
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      if (!there(setting, images, dtype)) continue;
      const auto run = [&](const at::Tensor& rows) {
        const c10::NoGradGuard no_grad;
        return setting.function().sum_features(rows, setting.sums, dtype);
      };
      const auto gradient = [&] {
        return flat(torch::autograd::grad({setting.function().sum_features(images, setting.sums, dtype).sum()},
                                          trained(setting.sums)));
      };
      at::set_num_threads(1);
      const at::Tensor together = run(images), slopes = gradient();
      EXPECT_TRUE(at::equal(run(images.slice(0, 1, 2)), together.slice(0, 1, 2))) << c.name << ", " << dtype;
      at::set_num_threads(3);  // more than two rows: those of one image go to several threads
      EXPECT_TRUE(at::equal(run(images), together)) << c.name << ", " << dtype;
      EXPECT_TRUE(at::equal(run(images.slice(0, 1, 3)), together.slice(0, 1, 3))) << c.name << ", " << dtype;
      EXPECT_TRUE(at::equal(gradient(), slopes)) << c.name << ", " << dtype;
      EXPECT_TRUE(at::equal(setting.function().sum_features(images, setting.sums, dtype).detach(), together))
          << c.name << ", " << dtype;
    }
  }
  at::set_num_threads(threads);
}

TEST(SumFeatures, FollowCoefficientsThatMoveInPlace) {
  const Setting setting(cases()[0]);
  const at::Tensor images = toy_images(2);
  if (!there(setting, images, at::kFloat)) GTEST_SKIP() << "no products of fp32";
  const c10::NoGradGuard no_grad;
  const at::Tensor before = setting.function().sum_features(images, setting.sums, at::kFloat);
  for (const at::Tensor& c : trained(setting.sums)) c.add_(0.1);
  const at::Tensor after = setting.function().sum_features(images, setting.sums, at::kFloat);
  EXPECT_LT(relative_error(after, definition(setting, images, setting.sums).to(at::kDouble)),
            2 * tolerance(cases()[0].vit, at::kFloat));
  EXPECT_GT(relative_error(after, before.to(at::kDouble)), 0.01);
  for (const at::Tensor& c : trained(setting.sums)) c.add_(-0.1);
}

TEST(SumFeatures, AreDifferentiableTwice) {
  const Setting setting(cases()[0]);
  const at::Tensor images = toy_images(2);
  if (!there(setting, images, at::kFloat)) GTEST_SKIP() << "no products of fp32";
  const auto second = [&](const at::Tensor& features) {
    const std::vector<at::Tensor> all = trained(setting.sums);
    const auto first = torch::autograd::grad({features.pow(2).sum()}, all, {}, true, true);
    at::Tensor norm = at::zeros({});
    for (const at::Tensor& gradient : first) norm = norm + gradient.pow(2).sum();
    return flat(torch::autograd::grad({norm}, all));
  };
  const at::Tensor wanted = second(definition(setting, images, setting.sums));
  const at::Tensor got = second(setting.function().sum_features(images, setting.sums, at::kFloat));
  EXPECT_LT(relative_error(got, wanted), 4 * tolerance(cases()[0].vit, at::kFloat));
}

/// As operators of autograd: a graph may be one of several, be gone through again, outlive its model, end in a tensor
/// that is written.
TEST(SumFeatures, HaveGraphsThatStandAlone) {
  Setting setting(cases()[0]);
  const at::Tensor images = toy_images(2), others = toy_images(2, 16, 8);
  if (!there(setting, images, at::kFloat)) GTEST_SKIP() << "no products of fp32";
  const std::vector<at::Tensor> coefficients = setting.trained();
  const auto features = in_fp32(setting);
  const at::Tensor wanted = slopes_of(features(images), coefficients);
  const at::Tensor first = features(images), second = features(others);
  EXPECT_FALSE(at::equal(slopes_of(second, coefficients), wanted));
  EXPECT_TRUE(at::equal(slopes_of(first, coefficients), wanted));
  EXPECT_TRUE(at::equal(slopes_of(first, coefficients), wanted));
  EXPECT_TRUE(at::equal(slopes_of(features(images).mul_(2), coefficients), 2 * wanted));
  setting.backbone.reset();
  EXPECT_TRUE(at::equal(slopes_of(first, coefficients), wanted));
  EXPECT_LT(relative_error(slopes_of(first, coefficients, /*create_graph=*/true), wanted),
            2 * std::sqrt(2.0) * tolerance(cases()[0].vit, at::kFloat));
}

TEST(SumFeatures, AreTheSameInSeveralThreadsFromTheFirstCallOn) {
  const Setting known(cases()[2]), fresh(cases()[2]);
  const at::Tensor images = toy_images(2);
  if (!there(known, images, at::kFloat)) GTEST_SKIP() << "no products of fp32";
  const at::Tensor wanted = in_fp32(known)(images), slopes = slopes_of(wanted, known.trained());
  std::vector<at::Tensor> got(4);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < got.size(); ++i)
    threads.emplace_back([&, i] {
      at::set_num_threads(1);
      const c10::InferenceMode inference(i % 2 == 0);
      const at::Tensor features = in_fp32(fresh)(images);
      got[i] = i % 2 == 0 ? features : slopes_of(features, fresh.trained());
    });
  for (std::thread& thread : threads) thread.join();
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_TRUE(at::equal(got[i], i % 2 == 0 ? wanted.detach() : slopes));
}

TEST(SumFeatures, TakeImagesOfAnySizeLayoutAndPrecision) {
  const FeatureCase c = cases()[3];
  const Setting setting(c);
  const at::Tensor images = toy_images(2, 24);
  if (!there(setting, images, at::kFloat)) GTEST_SKIP() << "no products of fp32";
  const c10::NoGradGuard no_grad;
  const auto features = in_fp32(setting);
  const at::Tensor wanted = features(images), half = images.to(at::kHalf);
  EXPECT_LT(relative_error(wanted, definition(setting, images.to(at::kDouble), in_double(setting.sums))),
            tolerance(c.vit, at::kFloat));
  EXPECT_TRUE(at::equal(features(images.transpose(2, 3).contiguous().transpose(2, 3)), wanted));
  EXPECT_TRUE(at::equal(features(half), features(half.to(at::kFloat))));
}

/// By one thread, whose memory has been through the first image when the others come.
TEST(SumFeatures, PassOnWhatIsNotFinite) {
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const Setting setting(cases()[3]);
  const at::Tensor images = toy_images(3), broken = images.clone();
  broken[0].fill_(std::nan(""));
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    if (!there(setting, images, dtype)) continue;
    const auto features = [&](const at::Tensor& x) {
      return setting.function().sum_features(x, setting.sums, dtype).detach();
    };
    const at::Tensor got = features(broken);
    EXPECT_TRUE(at::isnan(got[0]).all().item<bool>()) << dtype;
    EXPECT_TRUE(at::equal(got.slice(0, 1), features(images).slice(0, 1))) << dtype;
  }
  at::set_num_threads(threads);
}

TEST(SumFeatures, SayWhyThereAreNone) {
  const Setting setting(cases()[0]);
  const auto why = [&](const at::Tensor& images, at::ScalarType dtype = at::kFloat) {
    return setting.function().why_no_sum_features(images, setting.sums, dtype);
  };
  EXPECT_NE(why(toy_images(2).set_requires_grad(true)), "");
  EXPECT_NE(why(toy_images(2).to(at::kDouble)), "");
  EXPECT_NE(why(toy_images(0)), "");
  EXPECT_NE(why(toy_images(2)[0]), "");
  EXPECT_NE(why(toy_images(2).to(at::kByte)), "");
  EXPECT_NE(why(toy_images(2), at::kHalf), "");
  EXPECT_NE(why(toy_images(2), at::kDouble), "");
  BankSums more = setting.sums;
  more["patch_embed"] = more.begin()->second;
  EXPECT_NE(setting.function().why_no_sum_features(toy_images(2), more, at::kFloat), "");
  const Setting odd(cases().back());
  EXPECT_NE(odd.function().why_no_sum_features(toy_images(2), odd.sums, at::kBFloat16), "");
}

/// Values, gradients and bits again in processes that are told to do without some of the processor's instructions.
TEST(SumFeatures, HoldOnEachInstructionSet) {
  if (std::getenv("RECAST_TEST_CHILD")) GTEST_SKIP() << "is the child";
  for (const char* isa : {"ATEN_CPU_CAPABILITY=default", "ATEN_CPU_CAPABILITY=avx2", "ONEDNN_MAX_CPU_ISA=AVX2",
                          "ONEDNN_MAX_CPU_ISA=AVX512_CORE", "ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16"}) {
    const std::string command = fmt::format(
        "{} RECAST_TEST_CHILD=1 GTEST_OUTPUT= /proc/{}/exe "
        "--gtest_filter='SumFeatures.AreThere*:SumFeatures.Give*:SumFeatures.OfARow*:SumFeatures.PassOn*' "
        "> /dev/null 2>&1",
        isa, ::getpid());
    EXPECT_EQ(std::system(command.c_str()), 0) << isa;
  }
}

}  // namespace
}  // namespace recast
