// AdaptFormer: the paper's count, where it stands, dropout, a second implementation, what it learns.
#include <gtest/gtest.h>

#include "methods/adapter_case.h"
#include "methods/adapter_effect.h"

namespace recast {
namespace {

TEST(AdaptFormer, CountsThePapersNumbers) {
  // Table 1 of the paper: 1.26 million with a head of 100 classes on ViT-B.
  const Model base = untrained(zeros_of("vit_base_patch16_224"), {"adaptformer"});
  const State& own = base.numbers().at("adaptformer", Scope::kTask);
  EXPECT_EQ(count(own), 1189632);
  EXPECT_EQ(own.bytes(), 4 * 1189632);
  EXPECT_EQ((count(own) + 100 * (768 + 1)) / 10000, 126);
  const Model small = untrained(zeros_of("vit_small_patch16_224"), {"adaptformer:bottleneck=8"});
  EXPECT_EQ(count(small.numbers().at("adaptformer", Scope::kTask)), 12 * (2 * 384 * 8 + 8 + 384));
}

TEST(AdaptFormer, AgreesWithAnIndependentImplementation) {
  RECAST_NEED_PYTHON("torch,safetensors");
  AdapterComparison comparison;
  for (const bool layer_scale : {false, true}) {
    VitConfig vit = toy_vit_config();
    vit.layer_scale = layer_scale;
    const ModelFiles files = toy_vit(1, vit);
    Model model = untrained(make_backbone(files), {"adaptformer:bottleneck=6,scale=0.7"});
    shake(model, "adaptformer", 0.3);
    comparison.add(layer_scale ? "LayerScale" : "plain",
                   {vit_question(vit),
                    {{"name", "adaptformer"}, {"scale", 0.7}, {"trains", {"down", "down_bias", "up", "up_bias"}}},
                    {"adaptformer"}},
                   model, files.backbone);
  }
  comparison.expect_agreement();
}

at::Tensor features(const Model& model, Mode mode, std::uint64_t key) {
  Run run;
  run.mode = mode;
  run.key = Key(key);
  return model.features(Batch{{{"input", toy_images(3)}}, 3}, run);
}

TEST(AdaptFormer, DropsUnitsInTrainingOnly) {
  Model model = untrained(toy_backbone(), {"adaptformer:bottleneck=6,dropout=0.5"});
  shake(model, "adaptformer", 0.3);
  EXPECT_TRUE(at::equal(features(model, Mode::kTrain, 1), features(model, Mode::kTrain, 1)));
  EXPECT_FALSE(at::equal(features(model, Mode::kTrain, 1), features(model, Mode::kTrain, 2)));
  EXPECT_TRUE(at::equal(features(model, Mode::kEvaluate, 1), features(model, Mode::kEvaluate, 2)));
  Model whole = untrained(toy_backbone(), {"adaptformer:bottleneck=6,dropout=0"});
  whole.numbers() = model.numbers();
  EXPECT_TRUE(at::equal(features(whole, Mode::kTrain, 1), features(model, Mode::kEvaluate, 1)));
}

TEST(AdaptFormer, TwoInOneRecipeKeepApart) {
  Model one = untrained(toy_backbone(), {"adaptformer:bottleneck=6,scale=0.4"});
  shake(one, "adaptformer", 0.3);
  Model two =
      untrained(toy_backbone(), {"adaptformer:bottleneck=6,scale=0.1", "adaptformer:bottleneck=6,scale=0.3,as=b"});
  for (const char* alias : {"adaptformer", "b"})
    two.numbers().at(alias, Scope::kTask) = one.numbers().at("adaptformer", Scope::kTask);
  const at::Tensor expected = features(one, Mode::kEvaluate, 1);
  EXPECT_LE(relative_difference(features(two, Mode::kEvaluate, 1), expected), 1e-6);
}

TEST(AdaptFormerEffect, LearnsARealTaskAloneAndBesideRecast) {
  RECAST_NEED_REAL_TASK();
  expect_learns_on_vit("adaptformer", 4 * 595200);
}

}  // namespace
}  // namespace recast
