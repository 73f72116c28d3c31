#include "recast/model/config.h"

#include <c10/util/accumulate.h>
#include <gtest/gtest.h>

#include <map>

#include "recast/base/error.h"
#include "recast/model/model_files.h"

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
    EXPECT_EQ(read.vit().norm_eps, config.vit().norm_eps);
    EXPECT_FALSE(written.contains("cnn"));
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

TEST(ModelConfig, OfConvolutionalNetworksComesBackFromJson) {
  for (const char* name : {"resnet34", "resnet50", "resnet20_cifar", "efficientnet_lite0", "tf_efficientnet_lite0"}) {
    ModelConfig config = architecture(name);
    config.bank = {"conv", 1, 0, 2, "closed", {{"layer1.conv1.0", {"layer1.1.conv1", "layer1.2.conv1"}}}};
    const nlohmann::json written = config.to_json();
    const ModelConfig read = ModelConfig::from_json(nlohmann::json::parse(written.dump()), "config.json");
    EXPECT_EQ(read.to_json(), written);
    EXPECT_EQ(read.cnn(), config.cnn());
    EXPECT_EQ(read.bank.templates, 0);
    EXPECT_EQ(read.bank.templates_of(read.bank.members[0]), 2);
    EXPECT_FALSE(written.contains("vit"));
  }
}

TEST(ModelConfig, RefusesImpossibleConvolutionalNetworks) {
  const auto refused = [](const char* pointer, const nlohmann::json& value) {
    nlohmann::json object = architecture("tf_efficientnet_lite0").to_json();
    object[nlohmann::json::json_pointer(pointer)] = value;
    std::string text;
    EXPECT_EQ(code_of(object, text), Code::kDataCorruption) << pointer;
    return text;
  };
  EXPECT_NE(refused("/cnn/stem_kernel", 4).find("stem_kernel must be odd"), std::string::npos);
  EXPECT_NE(refused("/cnn/stages/2/kernel", 2).find("stage 2: kernel must be odd"), std::string::npos);
  EXPECT_NE(refused("/cnn/stages/3/block", "basic").find("do not stand beside"), std::string::npos);
  EXPECT_NE(refused("/cnn/stages/3/block", "dense").find("block must be"), std::string::npos);
  EXPECT_NE(refused("/cnn/stages/3/colour", 1).find("cnn.stages[3].colour"), std::string::npos);
  EXPECT_NE(refused("/cnn/stages", nlohmann::json::array()).find("0 stages"), std::string::npos);
  EXPECT_NE(refused("/cnn/stages", nlohmann::json::array_t(65)).find("more than 64"), std::string::npos);
  EXPECT_NE(refused("/cnn/padding", "valid").find("padding must be symmetric or same"), std::string::npos);
  EXPECT_NE(refused("/cnn/activation", "gelu").find("activation"), std::string::npos);
  EXPECT_NE(refused("/cnn/norm_eps", 0).find("norm_eps"), std::string::npos);
  EXPECT_NE(refused("/cnn/stages/1/expansion", 1 << 20).find("expansion"), std::string::npos);
  EXPECT_NE(refused("/cnn/stages/1/channels", 1 << 20).find("expansion 6 makes more than"), std::string::npos);
  EXPECT_NE(refused("/cnn/stages/1/blocks", 4096).find("blocks must lie in 1..1024"), std::string::npos);
  EXPECT_NE(refused("/vit", architecture("vit_tiny_patch16_224").to_json().at("vit")).find("both"), std::string::npos);

  CnnConfig shrinking = architecture("resnet18").cnn();
  for (CnnStage& stage : shrinking.stages) stage.stride = 16;
  EXPECT_NE(fault_of(shrinking).find("shrink an image by more than 4096"), std::string::npos);
  CnnConfig narrowing = architecture("resnet20_cifar").cnn();
  narrowing.stages[1].channels = 8;
  EXPECT_NE(fault_of(narrowing).find("cannot turn 16 channels into 8"), std::string::npos);
}

TEST(ModelConfig, RefusesANewerFormat) {
  std::string text;
  nlohmann::json newer = {{"format_version", 2}};
  EXPECT_EQ(code_of(newer, text), Code::kUnsupported);
  EXPECT_NE(text.find("newer recast"), std::string::npos) << text;
}

TEST(Architecture, HasTimmsShapesAndPreprocessing) {
  const ModelConfig small = architecture("vit_small_patch16_224");
  EXPECT_EQ(small.vit().depth, 12);
  EXPECT_EQ(small.vit().width, 384);
  EXPECT_EQ(small.vit().heads, 6);
  EXPECT_EQ(small.vit().mlp_width, 1536);
  EXPECT_EQ(small.vit().grid, 14);
  EXPECT_EQ(small.preprocessing.mean[0], 0.5);
  EXPECT_EQ(small.preprocessing.crop_pct, 0.9);
  const ModelConfig dinov2 = architecture("vit_base_patch14_reg4_dinov2");
  EXPECT_EQ(dinov2.vit().grid, 37);
  EXPECT_EQ(dinov2.vit().register_tokens, 4);
  EXPECT_TRUE(dinov2.vit().layer_scale);
  EXPECT_FALSE(dinov2.vit().class_position);
  EXPECT_EQ(dinov2.preprocessing.size_px, 518);
  EXPECT_EQ(dinov2.preprocessing.mean[0], 0.485);
  EXPECT_EQ(architecture("vit_large_patch16_384").preprocessing.crop_pct, 1.0);
  for (const std::string& name : architecture_names()) EXPECT_EQ(fault_of(architecture(name).network), "") << name;
}

TEST(Architecture, TagsOfTimmsWeightsOnlyDecideNormalisation) {
  EXPECT_EQ(architecture("vit_small_patch16_224.augreg_in21k").architecture, "vit_small_patch16_224");
  EXPECT_EQ(architecture("vit_small_patch16_224.augreg_in21k").preprocessing.mean[0], 0.5);
  EXPECT_EQ(architecture("vit_small_patch16_224.dino").preprocessing.mean[0], 0.485);
}

TEST(Architecture, OfConvolutionalNetworksHasTheirPublishedSizes) {
  // Parameters of the published networks without their classifiers of 1000 (CIFAR: 10) classes.
  const std::map<std::string, std::int64_t> kParameters = {{"resnet18", 11'689'512 - 513'000},
                                                           {"resnet34", 21'797'672 - 513'000},
                                                           {"resnet50", 25'557'032 - 2'049'000},
                                                           {"resnet101", 44'549'160 - 2'049'000},
                                                           {"resnet152", 60'192'808 - 2'049'000},
                                                           {"efficientnet_lite0", 4'652'008 - 1'281'000},
                                                           {"tf_efficientnet_lite0", 4'652'008 - 1'281'000},
                                                           {"resnet20_cifar", 269'722 - 650},
                                                           {"resnet32_cifar", 464'154 - 650},
                                                           {"resnet44_cifar", 658'586 - 650},
                                                           {"resnet56_cifar", 853'018 - 650}};
  for (const auto& [name, expected] : kParameters) {
    std::int64_t parameters = 0;
    for (const auto& [tensor, shape] : backbone_tensors(architecture(name).cnn())) {
      if (!tensor.ends_with(".running_mean") && !tensor.ends_with(".running_var"))
        parameters += c10::multiply_integers(shape);
    }
    EXPECT_EQ(parameters, expected) << name;
  }
}

TEST(Architecture, OfConvolutionalNetworksHasTimmsPreprocessing) {
  const Preprocessing lite = architecture("efficientnet_lite0").preprocessing;
  EXPECT_EQ(lite, (Preprocessing{.size_px = 224, .crop_pct = 0.875, .interpolation = "bicubic"}));
  EXPECT_EQ(architecture("tf_efficientnet_lite0").preprocessing.mean[0], 0.5);
  EXPECT_EQ(architecture("resnet34").preprocessing.crop_pct, 0.95);
  EXPECT_EQ(architecture("resnet34.tv_in1k").preprocessing,
            (Preprocessing{.size_px = 224, .crop_pct = 0.875, .interpolation = "bilinear"}));
  EXPECT_EQ(architecture("resnet50.a3_in1k").preprocessing.size_px, 160);
  EXPECT_EQ(architecture("resnet20_cifar").preprocessing.size_px, 32);
  EXPECT_EQ(architecture("resnet20_cifar.cifar100").preprocessing.mean[0], 0.5071);
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
  EXPECT_NE(text("perceiver").find("known: vit_tiny_patch16_224"), std::string::npos);
  EXPECT_NE(text("resnet_34").find("did you mean resnet34?"), std::string::npos);
  EXPECT_NE(text("vit_giant_patch14_dinov2").find("SwiGLU"), std::string::npos);
}

}  // namespace
}  // namespace recast
