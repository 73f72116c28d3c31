// MeLo: LoRA on q and v with the paper's numbers, and nothing else.
#include <gtest/gtest.h>

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

TEST(MeloEffect, LearnsARealTaskAloneAndOverRecast) {
  RECAST_NEED_REAL_TASK();
  expect_learns_on_vit("melo", 4 * 73728);
}

}  // namespace
}  // namespace recast
