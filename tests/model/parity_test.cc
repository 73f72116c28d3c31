// Features and logits equal those of timm, transformers, torchvision and (zoo_imgfocus) onnxruntime.
#include <functional>
#include <map>

#include "model/golden_case.h"

namespace recast {
namespace {

constexpr double kTolerance = 1e-4;  // of the largest output

class Parity : public testing::TestWithParam<std::string> {};

TEST_P(Parity, EqualsTheLibraryThatTheCheckpointIsFrom) {
  const GoldenCase golden(GetParam());
  const auto backbone = make_backbone(golden.imported.files);
  for (const int size : golden.sizes()) {
    const at::Tensor features = plain_features(*backbone, golden.images_at(size));
    const double worst = difference(features, golden.features_at(size));
    std::printf("[  parity  ] %s at %d px: features differ by %.1e of the largest\n", GetParam().c_str(), size, worst);
    EXPECT_LT(worst, kTolerance) << size;
    const auto logits = golden.expected.find("logits." + std::to_string(size));
    if (logits == golden.expected.end()) continue;
    const at::Tensor got = at::linear(features, golden.imported.classifier_weight, golden.imported.classifier_bias);
    EXPECT_LT(difference(got, logits->second), kTolerance) << size;
  }
}

TEST_P(Parity, ImportReadsOffTheLibrarysChoices) {
  const GoldenCase golden(GetParam());
  const VitConfig& vit = golden.imported.files.config.vit;
  EXPECT_EQ(vit.norm_eps, golden.about.at("norm_eps").get<double>());
  EXPECT_EQ(vit.qkv_bias, golden.about.at("qkv_bias").get<bool>());
  EXPECT_EQ(golden.imported.classifier_weight.defined(), golden.about.at("classes").get<int>() > 0);
  if (golden.imported.naming != "torchvision") {  // which takes one size only, so it has no choice to read off
    EXPECT_EQ(vit.pos_interpolation, golden.about.at("pos_interpolation").get<std::string>());
  }
  const std::string library = golden.about.at("library");
  const bool huggingface = library == "transformers" || library == "onnxruntime";  // the zoo writes Dinov2's names
  EXPECT_EQ(golden.imported.naming, huggingface ? "huggingface" : library);
}

INSTANTIATE_TEST_SUITE_P(Golden, Parity, testing::ValuesIn(golden_cases()),
                         [](const auto& info) { return info.param; });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Parity);

TEST(ParityCases, CoverTheBackbonesThatWePromise) {
  for (const char* name : {"timm_vit_tiny", "timm_vit_small", "timm_vit_base", "timm_dinov2_small", "hf_vit_base",
                           "hf_dinov2_small", "torchvision_vit_b_16"}) {
    RECAST_REQUIRE_GOLDEN(name);
  }
}

// A parity test that a broken network passes proves nothing: each of these must be seen.
using Mutation = std::function<void(NamedTensors&)>;

const std::map<std::string, Mutation>& mutations() {
  static const auto kDrop = [](const char* name) {
    return [name](NamedTensors& tensors) { tensors[name] = at::zeros_like(tensors.at(name)); };
  };
  static const std::map<std::string, Mutation> kMutations = {
      {"q and k swapped",
       [](NamedTensors& tensors) {
         for (const char* name : {"blocks.1.attn.qkv.weight", "blocks.1.attn.qkv.bias"}) {
           const std::vector<at::Tensor> parts = tensors.at(name).chunk(3);
           tensors[name] = at::cat({parts[1], parts[0], parts[2]});
         }
       }},
      {"position grid shifted by one column",
       [](NamedTensors& tensors) { tensors["positions"] = tensors.at("positions").roll(1, 1); }},
      {"position grid shifted by one row",
       [](NamedTensors& tensors) { tensors["positions"] = tensors.at("positions").roll(1, 0); }},
      {"position grid transposed",
       [](NamedTensors& tensors) { tensors["positions"] = tensors.at("positions").transpose(0, 1).contiguous(); }},
      {"bias of q dropped",
       [](NamedTensors& tensors) {
         tensors["blocks.0.attn.qkv.bias"] = tensors.at("blocks.0.attn.qkv.bias").clone();
         tensors["blocks.0.attn.qkv.bias"].chunk(3)[0].zero_();
       }},
      {"bias of v dropped",
       [](NamedTensors& tensors) {
         tensors["blocks.0.attn.qkv.bias"] = tensors.at("blocks.0.attn.qkv.bias").clone();
         tensors["blocks.0.attn.qkv.bias"].chunk(3)[2].zero_();
       }},
      {"patch bias dropped", kDrop("patch_embed.bias")},
      {"proj bias dropped", kDrop("blocks.0.attn.proj.bias")},
      {"fc1 bias dropped", kDrop("blocks.0.mlp.fc1.bias")},
      {"fc2 bias dropped", kDrop("blocks.0.mlp.fc2.bias")},
      {"norm1 bias dropped", kDrop("blocks.0.norm1.bias")},
      {"last norm's bias dropped", kDrop("norm.bias")},
      {"class token's position dropped", kDrop("class_position")},
  };
  return kMutations;
}

class ParityMutation : public testing::TestWithParam<const char*> {};

TEST_P(ParityMutation, FailsTheParityTest) {
  RECAST_REQUIRE_GOLDEN(GetParam());
  const GoldenCase golden(GetParam());
  const int size = golden.sizes().back();
  const auto differs = [&](const ModelFiles& files) {
    return difference(plain_features(*make_backbone(files), golden.images_at(size)), golden.features_at(size));
  };
  ASSERT_LT(differs(golden.imported.files), kTolerance);
  for (const auto& [what, mutate] : mutations()) {
    ModelFiles files = golden.imported.files;
    mutate(files.backbone);
    EXPECT_GT(differs(files), kTolerance) << what;
  }
}

TEST_P(ParityMutation, AnotherResamplingOfPositionsFailsTheParityTest) {
  RECAST_REQUIRE_GOLDEN(GetParam());
  const GoldenCase golden(GetParam());
  ModelFiles files = golden.imported.files;
  std::string& interpolation = files.config.vit.pos_interpolation;
  interpolation = interpolation == "bicubic" ? "bicubic_antialias" : "bicubic";
  const int size = golden.sizes().back();
  EXPECT_GT(difference(plain_features(*make_backbone(files), golden.images_at(size)), golden.features_at(size)),
            kTolerance);
}

// The cases with norm gains around one, where the class token sees most of the patches.
INSTANTIATE_TEST_SUITE_P(Golden, ParityMutation, testing::Values("timm_vit_tiny_gain_1", "timm_dinov2_small_gain_1"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace recast
