#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <set>
#include <thread>

#include "model/golden_case.h"
#include "model/routes.h"
#include "model/toy_vit.h"
#include "recast/base/error.h"

namespace recast {
namespace {

std::string message_of(const std::function<void()>& action, Code code) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(name(error.code()), name(code)) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown, expected " << name(code);
  return "";
}

VitConfig everything_on() {
  VitConfig vit = toy_vit_config();
  vit.layer_scale = true;
  vit.register_tokens = 3;
  vit.pooling = "token+average";
  vit.pos_interpolation = "bicubic";
  return vit;
}

TEST(Vit, PassesEachSlotOnceInDepthOrder) {
  const auto backbone = make_backbone(toy_vit());
  RecordingRoute route(*backbone);
  backbone->features(toy_images(2), route);
  std::vector<std::string> expected;
  for (const Slot& slot : backbone->anatomy().slots) {
    if (slot.kind != SlotKind::kVector) expected.push_back(slot.name);
  }
  // A norm runs before the attention around it is entered: the input of "blocks.N.attn" is the normed x.
  EXPECT_EQ(route.seen, expected);
  EXPECT_EQ(route.inputs.at("patch_embed").sizes(), at::IntArrayRef({2, 16, 48}));
  EXPECT_EQ(route.inputs.at("blocks.1.attn").sizes(), at::IntArrayRef({2, 17, 32}));
  EXPECT_TRUE(route.inputs.at("blocks.1.attn").equal(route.inputs.at("blocks.1.attn.qkv")));
  EXPECT_EQ(route.inputs.at("features").sizes(), at::IntArrayRef({2, 32}));
}

TEST(Vit, AsksOnceForTheValueOfEveryOtherParameter) {
  for (const VitConfig& vit : {toy_vit_config(), everything_on()}) {
    const auto backbone = make_backbone(toy_vit(1, vit));
    RecordingRoute route(*backbone);
    backbone->features(toy_images(2), route);
    std::vector<std::string> expected;
    std::size_t weights = 0;
    for (const Slot& slot : backbone->anatomy().slots) {
      weights += slot.kind == SlotKind::kWeight;
      if (slot.kind == SlotKind::kVector) expected.push_back(slot.name);
    }
    std::sort(expected.begin(), expected.end());
    std::sort(route.vectors.begin(), route.vectors.end());
    EXPECT_EQ(route.vectors, expected);
    EXPECT_EQ(weights + expected.size(), backbone_tensors(vit).size()) << "a parameter has no slot";
  }
}

TEST(Vit, RefusesSizesThatThePatchesDoNotTile) {
  const auto backbone = make_backbone(toy_vit());
  const std::string text = message_of([&] { plain_features(*backbone, toy_images(1, 18)); }, Code::kShapeMismatch);
  EXPECT_NE(text.find("take 16 or 20"), std::string::npos) << text;
  message_of([&] { plain_features(*backbone, at::zeros({1, 1, 16, 16})); }, Code::kShapeMismatch);
  message_of([&] { plain_features(*backbone, at::zeros({3, 16, 16})); }, Code::kShapeMismatch);
  message_of([&] { plain_features(*backbone, at::zeros({1, 3, 16, 16}, at::kLong)); }, Code::kShapeMismatch);
  EXPECT_NE(message_of([&] { plain_features(*backbone, toy_images(1, 3)); }, Code::kShapeMismatch).find("take 4"),
            std::string::npos);
}

TEST(Vit, TakesOtherSizesAndImagesThatAreNotSquare) {
  for (const VitConfig& vit : {toy_vit_config(), everything_on()}) {
    const auto backbone = make_backbone(toy_vit(1, vit));
    const at::Tensor wide = toy_images(2, 24).slice(2, 0, 12);
    EXPECT_EQ(plain_features(*backbone, wide).sizes(), at::IntArrayRef({2, backbone->feature_width()}));
    EXPECT_TRUE(plain_features(*backbone, wide).isfinite().all().item<bool>());
    EXPECT_GT(difference(plain_features(*backbone, wide), plain_features(*backbone, wide.transpose(2, 3))), 1e-3);
  }
}

TEST(Vit, AnswersAnEmptyBatch) {
  const auto backbone = make_backbone(toy_vit());
  EXPECT_EQ(plain_features(*backbone, toy_images(0)).sizes(), at::IntArrayRef({0, 32}));
}

TEST(Vit, Bf16ProductsStayCloseAndTheStreamStaysFp32) {
  for (const VitConfig& vit : {toy_vit_config(), everything_on()}) {
    const auto backbone = make_backbone(toy_vit(1, vit));
    const at::Tensor images = toy_images(4);
    Bf16Route route(*backbone);
    const at::Tensor features = backbone->features(images, route);
    EXPECT_EQ(features.scalar_type(), at::kFloat);
    const double worst = difference(features, plain_features(*backbone, images));
    EXPECT_LT(worst, 3e-2);
    EXPECT_GT(worst, 1e-5) << "the products did not run in bf16";
    EXPECT_LT(difference(plain_features(*backbone, images.to(at::kBFloat16)), plain_features(*backbone, images)), 3e-2);
  }
}

TEST(Vit, RunsInDoubleForDoublePixels) {
  for (const VitConfig& vit : {toy_vit_config(), everything_on()}) {
    const auto backbone = make_backbone(toy_vit(1, vit));
    const at::Tensor features = plain_features(*backbone, toy_images(2).to(at::kDouble));
    EXPECT_EQ(features.scalar_type(), at::kDouble);
    EXPECT_LT(difference(plain_features(*backbone, toy_images(2)).to(at::kDouble), features), 1e-5);
  }
}

TEST(Vit, GradientsOfEveryWeightAndVectorSlotAgreeWithFiniteDifferences) {
  const auto backbone = make_backbone(toy_vit(1, everything_on()));
  const at::Tensor images = toy_images(2, 20).to(at::kDouble);  // not the native size: positions are resampled
  expect_gradients_of_differences(*backbone, images, {.step = 1e-5, .relative = 1e-6, .absolute = 1e-12});
}

TEST(Vit, TrainsInFp32AndBf16AfterBeingUsedInInferenceMode) {
  const auto backbone = make_backbone(toy_vit());
  plain_features(*backbone, toy_images(1, 24));  // makes the positions of 24 px
  const Slot& slot = backbone->anatomy().at("blocks.0.mlp.fc1");
  const at::Tensor weight = backbone->weight(slot).clone().set_requires_grad(true);
  ReplacingRoute route(*backbone, slot.name, weight);
  backbone->features(toy_images(1, 24), route).square().sum().backward();
  const at::Tensor exact = weight.grad().clone();
  EXPECT_GT(exact.abs().max().item<float>(), 0);

  class Mixed : public ReplacingRoute {
   public:
    using ReplacingRoute::ReplacingRoute;
    at::Tensor product(const Slot& slot, const at::Tensor& x, const Apply& apply) override {
      return ReplacingRoute::product(slot, x, [&](const at::Tensor& t, const at::Tensor& w) {
        return apply(t.to(at::kBFloat16), w.to(at::kBFloat16));
      });
    }
  };
  weight.mutable_grad() = at::Tensor();
  Mixed mixed(*backbone, slot.name, weight);
  backbone->features(toy_images(1, 24), mixed).square().sum().backward();
  EXPECT_LT(difference(weight.grad(), exact), 0.1);
}

TEST(Vit, OwnWeightsAreNotTrained) {
  const auto backbone = make_backbone(toy_vit());
  at::Tensor images = toy_images(1).set_requires_grad(true);
  PlainRoute route(*backbone);
  backbone->features(images, route).sum().backward();
  EXPECT_GT(images.grad().abs().max().item<float>(), 0);
  EXPECT_FALSE(backbone->weight(backbone->anatomy().at("blocks.0.attn.qkv")).requires_grad());
}

TEST(Vit, KeepsABf16CopyOfAFrozenWeightThatGivesTheSameBits) {
  class Uncast : public PlainRoute {  // leaves the weight to the backbone
   public:
    using PlainRoute::PlainRoute;
    at::Tensor product(const Slot& slot, const at::Tensor& x, const Apply& apply) override {
      return PlainRoute::product(slot, x.to(at::kBFloat16), apply);
    }
  };
  const auto backbone = make_backbone(toy_vit());
  Bf16Route cast(*backbone);
  Uncast uncast(*backbone);
  const at::Tensor images = toy_images(2), wanted = backbone->features(images, cast);
  std::vector<std::thread> threads;  // the copies are made by whoever comes first
  std::vector<at::Tensor> got(4);
  for (at::Tensor& features : got) threads.emplace_back([&] { features = backbone->features(images, uncast); });
  for (std::thread& thread : threads) thread.join();
  for (const at::Tensor& features : got) EXPECT_TRUE(at::equal(features, wanted));
}

TEST(Vit, GivesTheSameFeaturesFromManyThreads) {
  const auto backbone = make_backbone(toy_vit());
  const at::Tensor images = toy_images(2, 24);
  const at::Tensor expected = plain_features(*make_backbone(toy_vit()), images);
  std::vector<at::Tensor> got(4);
  std::vector<std::thread> threads;
  for (at::Tensor& out : got) threads.emplace_back([&] { out = plain_features(*backbone, images); });
  for (std::thread& thread : threads) thread.join();
  for (const at::Tensor& out : got) EXPECT_TRUE(out.equal(expected));
}

TEST(Vit, RowsDoNotDependOnTheRestOfTheBatch) {
  const auto backbone = make_backbone(toy_vit());
  const at::Tensor images = toy_images(5);
  EXPECT_LT(
      difference(plain_features(*backbone, images.slice(0, 2, 3)), plain_features(*backbone, images).slice(0, 2, 3)),
      1e-5);
}

TEST(Vit, PoolsAsTheConfigSays) {
  VitConfig vit = toy_vit_config();
  const auto features = [&](const char* pooling) {
    vit.pooling = pooling;
    return plain_features(*make_backbone(toy_vit(1, vit)), toy_images(2));
  };
  const at::Tensor token = features("token"), average = features("average"), both = features("token+average");
  EXPECT_TRUE(both.equal(at::cat({token, average}, 1)));
  EXPECT_GT(difference(average, token), 1e-2);
}

TEST(Vit, WorksWithoutAClassToken) {
  VitConfig vit = toy_vit_config();
  vit.class_token = vit.class_position = false;
  vit.pooling = "average";
  EXPECT_EQ(plain_features(*make_backbone(toy_vit(1, vit)), toy_images(2)).sizes(), at::IntArrayRef({2, 32}));
}

TEST(Vit, WeightIsRefusedForSlotsWithoutOne) {
  const auto backbone = make_backbone(toy_vit());
  message_of([&] { backbone->weight(backbone->anatomy().at("norm")); }, Code::kInvalidArgument);
}

TEST(Anatomy, NamesWhatTheArchitectureHas) {
  ModelConfig config = architecture("vit_small_patch16_224");
  ModelFiles files{config, {}, {}};
  for (const auto& [name, shape] : backbone_tensors(config.vit())) files.backbone[name] = at::zeros(shape);
  const auto backbone = make_backbone(files);
  const Anatomy& anatomy = backbone->anatomy();
  ASSERT_EQ(anatomy.slots.size(), 5 + 12 * 17 + 4);
  for (std::size_t i = 0; i < anatomy.slots.size(); ++i) EXPECT_EQ(anatomy.slots[i].depth, static_cast<int>(i));

  const Slot& qkv = anatomy.at("blocks.3.attn.qkv");
  EXPECT_EQ(qkv.kind, SlotKind::kWeight);
  EXPECT_EQ(qkv.shape, (std::vector<std::int64_t>{1152, 384}));
  EXPECT_EQ(qkv.role, "attn.qkv");
  EXPECT_EQ(qkv.unit, 64);
  EXPECT_EQ(qkv.group, -1);
  ASSERT_EQ(qkv.parts.size(), 3U);
  EXPECT_EQ(qkv.parts[2].name, "v");
  EXPECT_EQ(qkv.parts[2].begin, 768);
  EXPECT_EQ(qkv.parts[2].end, 1152);
  EXPECT_EQ(anatomy.at("blocks.11.attn.proj").unit, 64);
  EXPECT_EQ(anatomy.at("blocks.11.mlp.fc2").shape, (std::vector<std::int64_t>{384, 1536}));
  EXPECT_EQ(anatomy.at("patch_embed").shape, (std::vector<std::int64_t>{384, 3, 16, 16}));
  EXPECT_EQ(anatomy.at("features").kind, SlotKind::kFeature);
  EXPECT_EQ(anatomy.at("blocks.0").role, "block");
  EXPECT_EQ(anatomy.at("blocks.7.norm2.weight").role, "norm2.weight");
  EXPECT_EQ(anatomy.at("blocks.7.mlp.fc1.bias").kind, SlotKind::kVector);
  EXPECT_EQ(anatomy.at("positions").shape, (std::vector<std::int64_t>{14, 14, 384}));
  EXPECT_EQ(anatomy.find("blocks.0.attn.scale"), nullptr);

  ASSERT_EQ(anatomy.couplings.size(), 24U);
  EXPECT_EQ(anatomy.couplings[0].kind, "attention");
  EXPECT_EQ(anatomy.couplings[0].width, 384);
  EXPECT_EQ(anatomy.couplings[0].units, 6);
  EXPECT_EQ(anatomy.couplings[1].units, 1536);
  EXPECT_EQ(anatomy.couplings[1].columns_of[0], "blocks.0.mlp.fc2");
  for (const Coupling& coupling : anatomy.couplings) {
    EXPECT_NE(anatomy.find(coupling.rows_of[0]), nullptr);
    EXPECT_NE(anatomy.find(coupling.columns_of[0]), nullptr);
  }
}

TEST(Anatomy, SuggestsTheNearestName) {
  const auto backbone = make_backbone(toy_vit());
  const std::string text = message_of([&] { backbone->anatomy().at("blocks.1.atn.qkv"); }, Code::kNotFound);
  EXPECT_NE(text.find("blocks.1.attn.qkv"), std::string::npos) << text;
  EXPECT_EQ(backbone->anatomy().find("blocks.2.attn.qkv"), nullptr);
}

}  // namespace
}  // namespace recast
