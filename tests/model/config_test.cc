#include "recast/model/config.h"

#include <gtest/gtest.h>

#include "recast/base/error.h"

namespace recast {
namespace {

Code code_of(const nlohmann::json& object, std::string& text) {
  try {
    ModelConfig::from_json(object, "config.json");
  } catch (const Error& error) {
    text = error.what();
    return error.code();
  }
  return Code::kInternal;
}

ModelConfig mimicked() {
  ModelConfig config = architecture("vit_small_patch14_reg4_dinov2");
  config.bank = {"attn", 1, 2, 3, "closed", {{"attn.qkv.0", {"blocks.0.attn.qkv", "blocks.1.attn.qkv"}}}};
  return config;
}

TEST(ModelConfig, ComesBackFromJson) {
  for (const ModelConfig& config : {architecture("vit_tiny_patch16_224"), mimicked()}) {
    const nlohmann::json written = config.to_json();
    const ModelConfig read = ModelConfig::from_json(nlohmann::json::parse(written.dump()), "config.json");
    EXPECT_EQ(read.to_json(), written);
    EXPECT_EQ(read.vit.norm_eps, config.vit.norm_eps);
    EXPECT_EQ(read.preprocessing, config.preprocessing);
    EXPECT_EQ(read.bank.members.size(), config.bank.members.size());
  }
}

TEST(ModelConfig, RefusesEveryMissingKeyAndWrongTypeByName) {
  const nlohmann::json good = mimicked().to_json();
  for (const char* pointer : {"/architecture", "/vit", "/vit/heads", "/vit/qkv_bias", "/preprocessing", "/bank/members",
                              "/bank/members/0/name", "/format_version"}) {
    std::string text;
    nlohmann::json wrong = good;
    wrong[nlohmann::json::json_pointer(pointer)] = nlohmann::json::array();
    if (std::string_view(pointer) == "/bank/members") wrong["bank"]["members"] = 7;
    EXPECT_EQ(code_of(wrong, text), Code::kDataCorruption) << pointer;
    const std::string key = std::string(pointer).substr(std::string(pointer).rfind('/') + 1);
    EXPECT_TRUE(key == "preprocessing" || text.find(key) != std::string::npos) << text;

    nlohmann::json missing = good;
    const nlohmann::json::json_pointer place(pointer);
    missing[place.parent_pointer()].erase(place.back());
    EXPECT_EQ(code_of(missing, text), Code::kDataCorruption) << pointer;
    EXPECT_NE(text.find(key), std::string::npos) << text;
  }
}

TEST(ModelConfig, RefusesUnknownKeysAndImpossibleShapes) {
  std::string text;
  nlohmann::json odd = mimicked().to_json();
  odd["vit"]["colour"] = 1;
  EXPECT_EQ(code_of(odd, text), Code::kDataCorruption);
  EXPECT_NE(text.find("vit.colour"), std::string::npos) << text;

  nlohmann::json heads = mimicked().to_json();
  heads["vit"]["heads"] = 7;
  EXPECT_EQ(code_of(heads, text), Code::kDataCorruption);
  EXPECT_NE(text.find("7 heads"), std::string::npos) << text;

  for (const auto& value : {nlohmann::json(0), nlohmann::json(-1), nlohmann::json(1e18), nlohmann::json(1.5),
                            nlohmann::json(std::uint64_t{1} << 63)}) {
    nlohmann::json depth = mimicked().to_json();
    depth["vit"]["depth"] = value;
    EXPECT_EQ(code_of(depth, text), Code::kDataCorruption) << value;
  }
  EXPECT_EQ(code_of(nlohmann::json::array(), text), Code::kDataCorruption);
}

TEST(ModelConfig, RefusesANewerFormat) {
  std::string text;
  nlohmann::json newer = {{"format_version", 2}};
  EXPECT_EQ(code_of(newer, text), Code::kUnsupported);
  EXPECT_NE(text.find("newer recast"), std::string::npos) << text;
}

TEST(Architecture, HasTimmsShapesAndPreprocessing) {
  const ModelConfig small = architecture("vit_small_patch16_224");
  EXPECT_EQ(small.vit.depth, 12);
  EXPECT_EQ(small.vit.width, 384);
  EXPECT_EQ(small.vit.heads, 6);
  EXPECT_EQ(small.vit.mlp_width, 1536);
  EXPECT_EQ(small.vit.grid, 14);
  EXPECT_EQ(small.preprocessing.mean[0], 0.5);
  EXPECT_EQ(small.preprocessing.crop_pct, 0.9);
  const ModelConfig dinov2 = architecture("vit_base_patch14_reg4_dinov2");
  EXPECT_EQ(dinov2.vit.grid, 37);
  EXPECT_EQ(dinov2.vit.register_tokens, 4);
  EXPECT_TRUE(dinov2.vit.layer_scale);
  EXPECT_FALSE(dinov2.vit.class_position);
  EXPECT_EQ(dinov2.preprocessing.size_px, 518);
  EXPECT_EQ(dinov2.preprocessing.mean[0], 0.485);
  EXPECT_EQ(architecture("vit_large_patch16_384").preprocessing.crop_pct, 1.0);
  for (const std::string& name : architecture_names()) EXPECT_EQ(fault_of(architecture(name).vit), "") << name;
}

TEST(Architecture, TagsOfTimmsWeightsOnlyDecideNormalisation) {
  EXPECT_EQ(architecture("vit_small_patch16_224.augreg_in21k").architecture, "vit_small_patch16_224");
  EXPECT_EQ(architecture("vit_small_patch16_224.augreg_in21k").preprocessing.mean[0], 0.5);
  EXPECT_EQ(architecture("vit_small_patch16_224.dino").preprocessing.mean[0], 0.485);
}

TEST(Architecture, SuggestsTheNearestAndRefusesSwiGlu) {
  const auto text = [](const char* name) -> std::string {
    try {
      architecture(name);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kUnsupported);
      return error.what();
    }
    return "";
  };
  EXPECT_NE(text("vit_smal_patch16_224").find("did you mean vit_small_patch16_224?"), std::string::npos);
  EXPECT_NE(text("resnet34").find("known: vit_tiny_patch16_224"), std::string::npos);
  EXPECT_NE(text("vit_giant_patch14_dinov2").find("SwiGLU"), std::string::npos);
}

}  // namespace
}  // namespace recast
