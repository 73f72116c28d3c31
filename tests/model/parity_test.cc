// Features and logits equal those of timm, transformers, torchvision, our own CIFAR ResNet and (zoo_imgfocus)
// onnxruntime.
#include <functional>
#include <map>

#include "model/golden_case.h"

namespace recast {
namespace {

constexpr double kTolerance = 1e-4;  // of the largest output

/// The name that recast has for the naming of a case's library.
std::string naming_of(const nlohmann::json& about) {
  const std::string library = about.at("library"), arch = about.at("arch");
  if (library == "transformers" || library == "onnxruntime") return "huggingface";  // the zoo writes Dinov2's names
  if (library == "cifar" || arch.starts_with("resnet")) return "torchvision";       // timm's are the same
  return library;
}

void expect_choices(const VitConfig& vit, const GoldenCase& golden) {
  EXPECT_EQ(vit.norm_eps, golden.about.at("norm_eps").get<double>());
  EXPECT_EQ(vit.qkv_bias, golden.about.at("qkv_bias").get<bool>());
  if (golden.imported.naming != "torchvision") {  // which takes one size only, so it has no choice to read off
    EXPECT_EQ(vit.pos_interpolation, golden.about.at("pos_interpolation").get<std::string>());
  }
}

void expect_choices(const CnnConfig& cnn, const GoldenCase& golden) {
  EXPECT_EQ(cnn.norm_eps, golden.about.at("norm_eps").get<double>());
  EXPECT_EQ(cnn.padding, golden.about.at("padding").get<std::string>());
  EXPECT_EQ(cnn.shortcut, golden.about.at("shortcut").get<std::string>());
}

class Parity : public testing::TestWithParam<std::string> {};

TEST_P(Parity, EqualsTheLibraryThatTheCheckpointIsFromAndReadsOffItsChoices) {
  const GoldenCase golden(GetParam());
  std::visit([&](const auto& network) { expect_choices(network, golden); }, golden.imported.files.config.network);
  EXPECT_EQ(golden.imported.classifier_weight.defined(), golden.about.at("classes").get<int>() > 0);
  EXPECT_EQ(golden.imported.naming, naming_of(golden.about));
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

INSTANTIATE_TEST_SUITE_P(Golden, Parity, testing::ValuesIn(golden_cases()),
                         [](const auto& info) { return info.param; });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Parity);

TEST(ParityCases, CoverTheBackbonesThatWePromise) {
  for (const char* name : {"timm_vit_tiny",
                           "timm_vit_small",
                           "timm_vit_base",
                           "timm_dinov2_small",
                           "hf_vit_base",
                           "hf_dinov2_small",
                           "torchvision_vit_b_16",
                           "torchvision_resnet18",
                           "torchvision_resnet34",
                           "torchvision_resnet50",
                           "hf_resnet18",
                           "hf_resnet50",
                           "timm_resnet18",
                           "timm_resnet34",
                           "timm_resnet50",
                           "timm_efficientnet_lite0",
                           "timm_tf_efficientnet_lite0",
                           "renamed_efficientnet_lite0",
                           "cifar_resnet20",
                           "cifar_resnet32_shortcut",
                           "cifar_resnet56_downsample"}) {
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

/// Of these weights in place of the golden case's, at a size that is not the native one.
double error_at_last_size(const GoldenCase& golden, const ModelFiles& files) {
  const int size = golden.sizes().back();
  return difference(plain_features(*make_backbone(files), golden.images_at(size)), golden.features_at(size));
}

class ParityMutation : public testing::TestWithParam<const char*> {};

TEST_P(ParityMutation, FailsTheParityTest) {
  RECAST_REQUIRE_GOLDEN(GetParam());
  const GoldenCase golden(GetParam());
  ASSERT_LT(error_at_last_size(golden, golden.imported.files), kTolerance);
  for (const auto& [what, mutate] : mutations()) {
    ModelFiles files = golden.imported.files;
    mutate(files.backbone);
    EXPECT_GT(error_at_last_size(golden, files), kTolerance) << what;
  }
}

TEST_P(ParityMutation, AnotherResamplingOfPositionsFailsTheParityTest) {
  RECAST_REQUIRE_GOLDEN(GetParam());
  const GoldenCase golden(GetParam());
  ModelFiles files = golden.imported.files;
  std::string& interpolation = files.config.vit().pos_interpolation;
  interpolation = interpolation == "bicubic" ? "bicubic_antialias" : "bicubic";
  EXPECT_GT(error_at_last_size(golden, files), kTolerance);
}

// The cases with norm gains around one, where the class token sees most of the patches.
INSTANTIATE_TEST_SUITE_P(Golden, ParityMutation, testing::Values("timm_vit_tiny_gain_1", "timm_dinov2_small_gain_1"),
                         [](const auto& info) { return std::string(info.param); });

/// The first tensor whose name ends so, as good as any other.
std::string first_ending(const NamedTensors& tensors, std::string_view ending) {
  for (const auto& [name, tensor] : tensors) {
    if (name.ends_with(ending)) return name;
  }
  return "";
}

class CnnParityMutation : public testing::TestWithParam<const char*> {};

TEST_P(CnnParityMutation, FailsTheParityTest) {
  RECAST_REQUIRE_GOLDEN(GetParam());
  const GoldenCase golden(GetParam());
  ASSERT_LT(error_at_last_size(golden, golden.imported.files), kTolerance);
  for (const char* ending : {".bn2.bias", ".bn2.weight", ".bn1.running_mean", ".bn1.running_var"}) {
    ModelFiles files = golden.imported.files;
    at::Tensor& tensor = files.backbone.at(first_ending(files.backbone, ending));
    tensor = tensor * 0.5;
    EXPECT_GT(error_at_last_size(golden, files), kTolerance) << ending;
  }
  for (const char* ending : {"conv1.weight", ".conv2.weight", "conv_stem.weight", ".conv_dw.weight"}) {
    ModelFiles files = golden.imported.files;
    const std::string name = first_ending(files.backbone, ending);
    if (name.empty()) continue;
    files.backbone[name] = files.backbone.at(name).flip(3);
    EXPECT_GT(error_at_last_size(golden, files), kTolerance) << name;
  }
  ModelFiles files = golden.imported.files;
  CnnConfig& cnn = files.config.cnn();
  cnn.norm_eps = 10 * cnn.norm_eps;
  EXPECT_GT(error_at_last_size(golden, files), kTolerance) << "norm_eps";
  cnn = golden.imported.files.config.cnn();
  cnn.padding = cnn.padding == "same" ? "symmetric" : "same";
  const int even = golden.sizes().front();  // of an odd side both paddings are the same
  EXPECT_GT(difference(plain_features(*make_backbone(files), golden.images_at(even)), golden.features_at(even)),
            kTolerance)
      << "padding";
}

INSTANTIATE_TEST_SUITE_P(Golden, CnnParityMutation,
                         testing::Values("torchvision_resnet18", "cifar_resnet20", "timm_tf_efficientnet_lite0"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace recast
