// MeLo: LoRA on q and v with the paper's numbers, and nothing else.
#include <gtest/gtest.h>

#include "format/expect_error.h"
#include "methods/adapter_case.h"
#include "methods/adapter_effect.h"

namespace recast {
namespace {

Learned learn_plug(const std::shared_ptr<const Backbone>& backbone, const std::string& plug, std::int64_t epochs) {
  const Recipe recipe = toy_recipe(epochs);
  return learn(toy_model(backbone, recipe, {plug}), toy_task(), toy_sources(20), recipe, {});
}

TEST(Melo, CountsThePapersNumbersOnVitSmall) {
  const State numbers = untrained(zeros_of("vit_small_patch16_224"), {"melo"}).numbers().at("melo", Scope::kTask);
  EXPECT_EQ(numbers.bytes(), 4 * 12 * 2 * 4 * (384 + 384));
  EXPECT_EQ(numbers.size(), 12u * 2 * 2);
  EXPECT_TRUE(numbers.has("a@blocks.11.attn.qkv#v"));
  EXPECT_FALSE(numbers.has("a@blocks.11.attn.qkv#k"));
}

TEST(Melo, IsLoraOnQAndV) {
  const auto backbone = toy_backbone();
  for (const auto& [melo, lora] :
       std::map<std::string, std::string>{{"melo", "lora:rank=4,alpha=4,targets=q+v,as=melo"},
                                          {"melo:rank=2,alpha=8", "lora:rank=2,alpha=8,targets=q+v,as=melo"}}) {
    const Learned a = learn_plug(backbone, melo, 2), b = learn_plug(backbone, lora, 2);
    EXPECT_TRUE(equal(a.model.numbers().only(Scope::kTask), b.model.numbers().only(Scope::kTask))) << melo;
    EXPECT_TRUE(equal(a.model.weights(), b.model.weights())) << melo;
    EXPECT_FALSE(equal(a.model.weights(), learn_plug(backbone, melo, 0).model.weights())) << "nothing was learned";
  }
}

std::string refusal_on(const std::shared_ptr<const Backbone>& backbone) {
  return error_of(Code::kUnsupported, [&] { compose({parse_plug("melo")}, backbone->anatomy()); });
}

TEST(Melo, IsRefusedInItsOwnNameOnAConvolutionalNetwork) {
  const std::string text = refusal_on(make_backbone(toy_cnn()));
  EXPECT_EQ(text.find("[melo] finds nothing to act on in this backbone (LoRA of rank 4 on q and v"), 0u) << text;
  EXPECT_EQ(text.find("[lora]"), std::string::npos) << text;
  for (const char* other : {" clr,", " lora,", " norm-tuning,", " piggyback"})
    EXPECT_NE(text.find(other), std::string::npos) << text;
  // Those that find nothing either, or need a mimicked directory, are not named as a way out.
  for (const char* other : {" melo", " adaptformer", ", recast"})
    EXPECT_EQ(text.find(other), std::string::npos) << text;
  EXPECT_NE(refusal_on(toy_cnn_backbone()).find(", recast"), std::string::npos) << "a mimicked one";
}

TEST(MeloEffect, LearnsARealTaskAloneAndOverRecast) {
  RECAST_NEED_REAL_TASK();
  expect_learns_on_vit("melo", 4 * 73728);
}

}  // namespace
}  // namespace recast
