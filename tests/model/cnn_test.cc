#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "format/expect_error.h"
#include "model/golden_case.h"
#include "model/routes.h"
#include "model/toy_cnn.h"
#include "recast/base/error.h"

namespace recast {
namespace {

constexpr const char* kBlocks[] = {"basic", "bottleneck", "inverted"};

CnnConfig padded_shortcuts() {
  CnnConfig cnn = toy_cnn_config();
  cnn.shortcut = "pad";
  return cnn;
}

TEST(Cnn, PassesEachSlotOnceInDepthOrder) {
  for (const char* block : kBlocks) {
    const auto backbone = make_backbone(toy_cnn(1, toy_cnn_config(block)));
    RecordingRoute route(*backbone);
    backbone->features(toy_images(2), route);
    std::vector<std::string> expected, vectors;
    std::size_t weights = 0;
    for (const Slot& slot : backbone->anatomy().slots) {
      weights += slot.kind == SlotKind::kWeight;
      (slot.kind == SlotKind::kVector ? vectors : expected).push_back(slot.name);
    }
    EXPECT_EQ(route.seen, expected) << block;
    EXPECT_EQ(route.vectors, vectors) << block;
    EXPECT_EQ(weights + vectors.size(), backbone_tensors(toy_cnn_config(block)).size()) << "a parameter has no slot";
  }
}

TEST(Cnn, ActivationsAreMapsAndFeaturesTheirAverage) {
  const auto backbone = make_backbone(toy_cnn());
  RecordingRoute route(*backbone);
  const at::Tensor features = backbone->features(toy_images(2), route);
  EXPECT_EQ(route.inputs.at("layer1.0").sizes(), at::IntArrayRef({2, 8, 8, 8}));
  EXPECT_EQ(route.inputs.at("layer2.0").sizes(), at::IntArrayRef({2, 8, 8, 8}));
  EXPECT_EQ(route.inputs.at("layer2.1").sizes(), at::IntArrayRef({2, 16, 4, 4}));
  EXPECT_EQ(route.inputs.at("layer2.0.bn1").sizes(), at::IntArrayRef({2, 16, 4, 4}));
  EXPECT_EQ(features.sizes(), at::IntArrayRef({2, 16}));
  EXPECT_EQ(backbone->feature_width(), 16);
}

TEST(Cnn, GradientsOfEveryWeightAndVectorSlotAgreeWithFiniteDifferences) {
  std::vector<CnnConfig> configs = {padded_shortcuts()};
  for (const char* block : kBlocks) configs.push_back(toy_cnn_config(block));
  for (const CnnConfig& config : configs) {
    const auto backbone = make_backbone(toy_cnn(1, config));
    const at::Tensor images = toy_images(2, 17).to(at::kDouble);
    // Small enough a step that hardly an activation crosses a kink of ReLU.
    expect_gradients_of_differences(*backbone, images, {.step = 1e-7, .relative = 1e-4, .absolute = 1e-13});
  }
}

/// The weight or vector of a slot with its rows (dimension 0) or columns (1) in another order.
void permute(ModelFiles& files, const std::string& tensor, std::int64_t dim, const at::Tensor& order) {
  files.backbone.at(tensor) = files.backbone.at(tensor).index_select(dim, order);
}

TEST(Cnn, CoupledChannelsMayChangePlacesTogether) {
  for (const char* block : kBlocks) {
    const ModelFiles toy = toy_cnn(1, toy_cnn_config(block));
    const auto backbone = make_backbone(toy);
    const at::Tensor expected = plain_features(*backbone, toy_images(2));
    EXPECT_FALSE(backbone->anatomy().couplings.empty());
    for (const Coupling& coupling : backbone->anatomy().couplings) {
      ModelFiles changed = toy;
      const at::Tensor order = at::arange(coupling.units - 1, -1, -1, at::kLong);
      ASSERT_EQ(coupling.units, coupling.width);
      for (const std::string& rows : coupling.rows_of) {
        permute(changed, rows + ".weight", 0, order);
        const std::vector<Slot>& slots = backbone->anatomy().slots;
        const Slot& norm = slots.at(static_cast<std::size_t>(backbone->anatomy().at(rows).depth) + 1);
        ASSERT_EQ(norm.kind, SlotKind::kNorm);
        for (const char* number : {".weight", ".bias", ".running_mean", ".running_var"})
          permute(changed, norm.name + number, 0, order);
      }
      EXPECT_GT(difference(plain_features(*make_backbone(changed), toy_images(2)), expected), 1e-3);
      for (const std::string& columns : coupling.columns_of) permute(changed, columns + ".weight", 1, order);
      EXPECT_LT(difference(plain_features(*make_backbone(changed), toy_images(2)), expected), 1e-5)
          << coupling.rows_of[0];
    }
  }
}

TEST(Cnn, TakesAnySizeDownToItsStride) {
  const auto backbone = make_backbone(toy_cnn());  // stem 2, second stage 2
  for (const std::int64_t side : {4, 5, 17, 32})
    EXPECT_EQ(plain_features(*backbone, toy_images(2, side)).sizes(), at::IntArrayRef({2, 16}));
  EXPECT_EQ(plain_features(*backbone, toy_images(2, 24).slice(2, 0, 11)).sizes(), at::IntArrayRef({2, 16}));
  const auto refused = [&](const at::Tensor& images) {
    return error_of(Code::kShapeMismatch, [&] { plain_features(*backbone, images); });
  };
  EXPECT_NE(refused(toy_images(1, 3)).find("sides must be at least 4"), std::string::npos);
  refused(at::zeros({1, 1, 16, 16}));
  refused(at::zeros({3, 16, 16}));
  refused(at::zeros({1, 3, 16, 16}, at::kLong));
}

TEST(Cnn, AnswersAnEmptyBatch) {
  for (const char* block : kBlocks) {
    const auto backbone = make_backbone(toy_cnn(1, toy_cnn_config(block)));
    EXPECT_EQ(plain_features(*backbone, toy_images(0)).size(0), 0);
  }
}

TEST(Cnn, Bf16ProductsStayCloseAndTheStreamStaysFp32) {
  for (const char* block : kBlocks) {
    const auto backbone = make_backbone(toy_cnn(1, toy_cnn_config(block)));
    const at::Tensor images = toy_images(4);
    Bf16Route route(*backbone);
    const at::Tensor features = backbone->features(images, route);
    EXPECT_EQ(features.scalar_type(), at::kFloat);
    const double worst = difference(features, plain_features(*backbone, images));
    EXPECT_LT(worst, 5e-2) << block;
    EXPECT_GT(worst, 1e-5) << "the products did not run in bf16";
  }
}

TEST(Cnn, RunsInDoubleForDoublePixels) {
  for (const char* block : kBlocks) {
    const auto backbone = make_backbone(toy_cnn(1, toy_cnn_config(block)));
    const at::Tensor features = plain_features(*backbone, toy_images(2).to(at::kDouble));
    EXPECT_EQ(features.scalar_type(), at::kDouble);
    EXPECT_LT(difference(plain_features(*backbone, toy_images(2)).to(at::kDouble), features), 1e-5);
  }
}

TEST(Cnn, TrainsAfterBeingUsedInInferenceModeAndKeepsItsOwnWeights) {
  const auto backbone = make_backbone(toy_cnn());
  const at::Tensor before = plain_features(*backbone, toy_images(2)).clone();
  const Slot& slot = backbone->anatomy().at("layer1.1.conv2");
  const at::Tensor weight = backbone->weight(slot).clone().set_requires_grad(true);
  ReplacingRoute route(*backbone, slot.name, weight);
  backbone->features(toy_images(2), route).square().sum().backward();
  EXPECT_GT(weight.grad().abs().max().item<float>(), 0);
  EXPECT_FALSE(backbone->weight(slot).requires_grad());
  EXPECT_TRUE(plain_features(*backbone, toy_images(2)).equal(before)) << "a batch moved the running statistics";
}

TEST(Cnn, RowsDoNotDependOnTheRestOfTheBatch) {
  for (const char* block : kBlocks) {
    const auto backbone = make_backbone(toy_cnn(1, toy_cnn_config(block)));
    const at::Tensor images = toy_images(5);
    const at::Tensor alone = plain_features(*backbone, images.slice(0, 2, 3));
    EXPECT_LT(difference(alone, plain_features(*backbone, images).slice(0, 2, 3)), 1e-5);
  }
}

TEST(Cnn, GivesTheSameFeaturesFromManyThreads) {
  const auto backbone = make_backbone(toy_cnn(1, toy_cnn_config("inverted")));
  const at::Tensor expected = plain_features(*backbone, toy_images(2));
  std::vector<at::Tensor> got(4);
  std::vector<std::thread> threads;
  for (at::Tensor& out : got) threads.emplace_back([&] { out = plain_features(*backbone, toy_images(2)); });
  for (std::thread& thread : threads) thread.join();
  for (const at::Tensor& out : got) EXPECT_TRUE(out.equal(expected));
}

TEST(Cnn, RefusesANegativeVarianceByName) {
  ModelFiles toy = toy_cnn();
  toy.backbone.at("layer2.0.bn2.running_var") = toy.backbone.at("layer2.0.bn2.running_var").neg();
  const std::string text = error_of(Code::kDataCorruption, [&] { make_backbone(toy); });
  EXPECT_NE(text.find("layer2.0.bn2.running_var"), std::string::npos) << text;
}

/// Anatomies need shapes only; zeros that share one element take no memory.
std::shared_ptr<const Backbone> hollow_backbone(const std::string& arch) {
  ModelFiles files{architecture(arch), {}, {}};
  for (const auto& [name, shape] : backbone_tensors(files.config.network))
    files.backbone[name] = at::zeros({}).expand(shape);
  return make_backbone(files);
}

TEST(CnnAnatomy, OfResnet34NamesWhatTorchvisionNames) {
  const auto backbone = hollow_backbone("resnet34");
  const Anatomy& anatomy = backbone->anatomy();
  for (std::size_t i = 0; i < anatomy.slots.size(); ++i) EXPECT_EQ(anatomy.slots[i].depth, static_cast<int>(i));
  EXPECT_EQ(anatomy.at("conv1").shape, (std::vector<std::int64_t>{64, 3, 7, 7}));
  EXPECT_EQ(anatomy.at("conv1").role, "conv1");
  EXPECT_EQ(anatomy.at("layer3.0.conv1").shape, (std::vector<std::int64_t>{256, 128, 3, 3}));
  EXPECT_EQ(anatomy.at("layer3.5.conv2").role, "layer3.conv2");
  EXPECT_EQ(anatomy.at("layer3.0.downsample").shape, (std::vector<std::int64_t>{256, 128, 1, 1}));
  EXPECT_EQ(anatomy.at("layer3.0.downsample_bn").kind, SlotKind::kNorm);
  EXPECT_EQ(anatomy.find("layer1.0.downsample"), nullptr);
  EXPECT_EQ(anatomy.at("layer2.1").kind, SlotKind::kActivation);
  EXPECT_EQ(anatomy.at("layer2.1").shape, (std::vector<std::int64_t>{128}));
  EXPECT_EQ(anatomy.at("layer2.1.bn2").eps, 1e-5);
  EXPECT_FALSE(anatomy.at("layer2.1.bn2.bias").statistic);
  EXPECT_TRUE(anatomy.at("layer2.1.bn2.running_mean").statistic);
  EXPECT_TRUE(anatomy.at("layer2.1.bn2.running_var").statistic);
  EXPECT_EQ(anatomy.at("layer2.1.bn2.running_var").kind, SlotKind::kVector);
  EXPECT_EQ(anatomy.slots.back().name, "features");
  EXPECT_EQ(backbone->feature_width(), 512);
  ASSERT_EQ(anatomy.couplings.size(), 16U);
  EXPECT_EQ(anatomy.couplings[0].rows_of, std::vector<std::string>{"layer1.0.conv1"});
  EXPECT_EQ(anatomy.couplings[0].columns_of, std::vector<std::string>{"layer1.0.conv2"});
}

TEST(CnnAnatomy, OfEfficientnetLiteNamesWhatTimmNames) {
  const auto backbone = hollow_backbone("tf_efficientnet_lite0");
  const Anatomy& anatomy = backbone->anatomy();
  EXPECT_EQ(anatomy.at("conv_stem").shape, (std::vector<std::int64_t>{32, 3, 3, 3}));
  EXPECT_EQ(anatomy.at("blocks.0.0.conv_dw").shape, (std::vector<std::int64_t>{32, 1, 3, 3}));
  EXPECT_EQ(anatomy.at("blocks.5.2.conv_pw").shape, (std::vector<std::int64_t>{1152, 192, 1, 1}));
  EXPECT_EQ(anatomy.at("blocks.5.2.conv_dw").role, "blocks.5.conv_dw");
  EXPECT_EQ(anatomy.at("blocks.5.2.bn3").eps, 1e-3);
  EXPECT_EQ(anatomy.at("conv_head").shape, (std::vector<std::int64_t>{1280, 320, 1, 1}));
  EXPECT_EQ(anatomy.at("bn2").kind, SlotKind::kNorm);
  EXPECT_EQ(backbone->feature_width(), 1280);
  const Coupling& inverted = anatomy.couplings.at(0);
  EXPECT_EQ(inverted.rows_of, (std::vector<std::string>{"blocks.1.0.conv_pw", "blocks.1.0.conv_dw"}));
  EXPECT_EQ(inverted.columns_of, std::vector<std::string>{"blocks.1.0.conv_pwl"});
  EXPECT_EQ(inverted.units, 96);
}

}  // namespace
}  // namespace recast
