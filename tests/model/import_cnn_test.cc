#include <gtest/gtest.h>

#include "model/import_case.h"
#include "model/toy_cnn.h"
#include "recast/base/error.h"

namespace recast {
namespace {

/// `name` with `from` at its end or before a dot, and the number after it, as another library writes it.
std::string replaced(std::string name, const std::string& from, const std::string& to) {
  if (const auto at = name.find(from); at != std::string::npos) name.replace(at, from.size(), to);
  return name;
}

/// torchvision's and timm's names of a ResNet; `projection` is "downsample" or "shortcut".
NamedTensors resnet_checkpoint(const ModelFiles& files, const std::string& prefix = "",
                               const std::string& projection = "downsample") {
  NamedTensors out;
  for (const auto& [name, tensor] : files.backbone) {
    std::string theirs = replaced(name, ".downsample_bn.", "." + projection + ".1.");
    theirs = replaced(theirs, ".downsample.weight", "." + projection + ".0.weight");
    out[prefix + theirs] = tensor;
    if (theirs.ends_with(".running_var"))
      out[prefix + replaced(theirs, ".running_var", ".num_batches_tracked")] = at::zeros({}, at::kLong);
  }
  return out;
}

/// efficientnet_pytorch's names of the toy EfficientNet: blocks are counted through, norms are named by their place.
NamedTensors renamed_checkpoint(const ModelFiles& files) {
  const std::map<std::string, std::string> kOuter = {
      {"conv_stem", "_conv_stem"}, {"bn1", "_bn0"}, {"conv_head", "_conv_head"}, {"bn2", "_bn1"}};
  const std::map<std::string, std::string> kSeparable = {
      {"conv_dw", "_depthwise_conv"}, {"bn1", "_bn1"}, {"conv_pw", "_project_conv"}, {"bn2", "_bn2"}};
  const std::map<std::string, std::string> kInverted = {{"conv_pw", "_expand_conv"},    {"bn1", "_bn0"},
                                                        {"conv_dw", "_depthwise_conv"}, {"bn2", "_bn1"},
                                                        {"conv_pwl", "_project_conv"},  {"bn3", "_bn2"}};
  NamedTensors out;
  for (const auto& [name, tensor] : files.backbone) {
    const auto dot = name.find('.');
    if (!name.starts_with("blocks.")) {
      out[kOuter.at(name.substr(0, dot)) + name.substr(dot)] = tensor;
      continue;
    }
    const int stage = name[7] - '0', block = name[9] - '0';
    const std::string rest = name.substr(11);
    const auto end = rest.find('.');
    const int number = stage == 0 ? 0 : 1 + 3 * (stage - 1) + block;
    const auto& inner = stage == 0 ? kSeparable : kInverted;
    out["_blocks." + std::to_string(number) + "." + inner.at(rest.substr(0, end)) + rest.substr(end)] = tensor;
  }
  return out;
}

/// Hugging Face's names of the toy ResNet: stages, blocks and convolutions are numbered from 0.
NamedTensors numbered_checkpoint(const ModelFiles& files, const std::string& prefix = "") {
  NamedTensors out;
  for (const auto& [name, tensor] : files.backbone) {
    const auto dot = name.rfind('.');
    std::string place = name.substr(0, dot);
    const bool norm = place.find("bn") != std::string::npos;
    if (!place.starts_with("layer")) {
      place = "embedder.embedder";
    } else {
      const std::string inside = place.substr(9);  // after "layer1.0."
      place = std::string("encoder.stages.") + static_cast<char>(place[5] - 1) + ".layers." + place[7] + "." +
              (inside.starts_with("downsample") ? "shortcut"
                                                : std::string("layer.") + static_cast<char>(inside.back() - 1));
    }
    out[prefix + place + (norm ? ".normalization" : ".convolution") + name.substr(dot)] = tensor;
    if (name.ends_with(".running_var"))
      out[prefix + place + ".normalization.num_batches_tracked"] = at::zeros({}, at::kLong);
  }
  return out;
}

TEST(ImportCnn, TakesEveryNamingWithAndWithoutPrefix) {
  for (const char* block : {"basic", "bottleneck"}) {
    const ModelFiles toy = toy_cnn(1, toy_cnn_config(block));
    for (const char* prefix : {"", "module.", "backbone."}) {
      const ImportedCheckpoint got = import_checkpoint(resnet_checkpoint(toy, prefix), toy.config, "x");
      EXPECT_EQ(got.naming, "torchvision");
      EXPECT_TRUE(equal(got.files.backbone, toy.backbone)) << block;
    }
    EXPECT_TRUE(
        equal(import_checkpoint(resnet_checkpoint(toy, "", "shortcut"), toy.config, "x").files.backbone, toy.backbone));
  }
  for (const char* block : {"basic", "bottleneck"}) {
    const ModelFiles toy = toy_cnn(1, toy_cnn_config(block));
    for (const char* prefix : {"", "resnet."}) {
      NamedTensors tensors = numbered_checkpoint(toy, prefix);
      tensors["classifier.1.weight"] = Key(1).normal({5, 16});
      tensors["classifier.1.bias"] = Key(2).normal({5});
      const ImportedCheckpoint got = import_checkpoint(tensors, toy.config, "x");
      EXPECT_EQ(got.naming, "huggingface");
      EXPECT_TRUE(equal(got.files.backbone, toy.backbone)) << block;
      EXPECT_TRUE(got.classifier_weight.equal(tensors.at("classifier.1.weight")));
    }
  }
  const ModelFiles lite = toy_cnn(1, toy_cnn_config("inverted"));
  EXPECT_SAYS(failure(numbered_checkpoint(toy_cnn()), lite.config, Code::kShapeMismatch), "missing");
  const ImportedCheckpoint timm = import_checkpoint(lite.backbone, lite.config, "x");
  EXPECT_EQ(timm.naming, "timm");
  EXPECT_TRUE(equal(timm.files.backbone, lite.backbone));
  const ImportedCheckpoint renamed = import_checkpoint(renamed_checkpoint(lite), lite.config, "x");
  EXPECT_EQ(renamed.naming, "efficientnet-pytorch");
  EXPECT_TRUE(equal(renamed.files.backbone, lite.backbone));
}

TEST(ImportCnn, SetsPaddingAndEpsilonOfEfficientnetPytorch) {
  CnnConfig timm = toy_cnn_config("inverted");
  timm.padding = "symmetric";
  timm.norm_eps = 1e-5;
  const ModelFiles lite = toy_cnn(1, timm);
  EXPECT_EQ(import_checkpoint(lite.backbone, lite.config, "x").files.config.cnn(), timm);
  const CnnConfig renamed = import_checkpoint(renamed_checkpoint(lite), lite.config, "x").files.config.cnn();
  EXPECT_EQ(renamed.padding, "same");
  EXPECT_EQ(renamed.norm_eps, 1e-3);
}

TEST(ImportCnn, FindsTheKindOfShortcutInTheCheckpoint) {
  CnnConfig pad = toy_cnn_config();
  pad.shortcut = "pad";
  const ModelFiles padded = toy_cnn(1, pad), projected = toy_cnn();
  EXPECT_EQ(import_checkpoint(resnet_checkpoint(padded), padded.config, "x").files.config.cnn().shortcut, "pad");
  for (const char* name : {"downsample", "shortcut"}) {
    const ImportedCheckpoint got = import_checkpoint(resnet_checkpoint(projected, "", name), padded.config, "x");
    EXPECT_EQ(got.files.config.cnn().shortcut, "projection");
    EXPECT_TRUE(equal(got.files.backbone, projected.backbone));
  }
}

TEST(ImportCnn, KeepsTheCheckpointsOwnClassifier) {
  const ModelFiles toy = toy_cnn(), lite = toy_cnn(1, toy_cnn_config("inverted"));
  const auto classified = [](NamedTensors tensors, const std::string& name, std::int64_t width) {
    tensors[name + ".weight"] = Key(1).normal({5, width});
    tensors[name + ".bias"] = Key(2).normal({5});
    return tensors;
  };
  for (const char* name : {"fc", "linear"}) {
    const NamedTensors tensors = classified(resnet_checkpoint(toy), name, 16);
    EXPECT_TRUE(
        import_checkpoint(tensors, toy.config, "x").classifier_weight.equal(tensors.at(std::string(name) + ".weight")));
  }
  EXPECT_TRUE(
      import_checkpoint(classified(lite.backbone, "classifier", 24), lite.config, "x").classifier_bias.defined());
  EXPECT_TRUE(
      import_checkpoint(classified(renamed_checkpoint(lite), "_fc", 24), lite.config, "x").classifier_bias.defined());
  EXPECT_SAYS(failure(classified(resnet_checkpoint(toy), "fc", 17), toy.config, Code::kShapeMismatch),
              "fc.weight is [5, 17], expected [classes, 16]");
}

TEST(ImportCnn, NamesTensorsThatAreMissingExtraOrMisshapen) {
  const ModelFiles toy = toy_cnn();
  NamedTensors tensors = resnet_checkpoint(toy, "module.");
  tensors.erase("module.layer2.0.downsample.1.running_mean");
  tensors["module.layer1.0.conv1.weight"] = at::zeros({8, 8, 1, 1});
  for (int i = 0; i < 7; ++i) tensors["module.extra." + std::to_string(i)] = at::zeros({1});
  const std::string text = failure(tensors, toy.config, Code::kShapeMismatch);
  EXPECT_SAYS(text, "1 missing (module.layer2.0.downsample.1.running_mean)");
  EXPECT_SAYS(text, "module.layer1.0.conv1.weight is [8, 8, 1, 1], expected [8, 8, 3, 3]");
  EXPECT_SAYS(text, "7 not of this architecture (module.extra.0, ");
}

TEST(ImportCnn, RefusesNanIntegersAndTwoNetworks) {
  const ModelFiles toy = toy_cnn();
  NamedTensors nan = resnet_checkpoint(toy);
  nan["layer1.1.bn1.running_var"] = nan["layer1.1.bn1.running_var"].clone();
  nan["layer1.1.bn1.running_var"][2] = NAN;
  EXPECT_SAYS(failure(nan, toy.config, Code::kDataCorruption), "layer1.1.bn1.running_var");
  NamedTensors integers = resnet_checkpoint(toy);
  integers["conv1.weight"] = at::zeros({8, 3, 3, 3}, at::kChar);
  EXPECT_SAYS(failure(integers, toy.config, Code::kUnsupported), "conv1.weight is of type Char");
  NamedTensors two = resnet_checkpoint(toy, "student.");
  two.merge(resnet_checkpoint(toy, "teacher."));
  EXPECT_SAYS(failure(two, toy.config, Code::kUnsupported), "more than one network");
}

/// A checkpoint of the right shapes that takes no memory, since only shapes are looked at before it is refused.
NamedTensors hollow_cnn(const std::string& arch) {
  ModelFiles files{architecture(arch), {}, {}};
  for (const auto& [name, shape] : backbone_tensors(files.config.network))
    files.backbone[name] = at::zeros({}).expand(shape);
  return arch.find("efficientnet") == std::string::npos ? resnet_checkpoint(files) : files.backbone;
}

TEST(ImportCnn, SaysWhichArchitectureACheckpointLooksLike) {
  const ModelConfig small = architecture("resnet18");
  EXPECT_SAYS(failure(hollow_cnn("resnet34"), small, Code::kShapeMismatch), "try --arch resnet34");
  EXPECT_SAYS(failure(hollow_cnn("resnet50"), small, Code::kShapeMismatch), "try --arch resnet50");
  EXPECT_SAYS(failure(hollow_cnn("resnet32_cifar"), architecture("resnet20_cifar"), Code::kShapeMismatch),
              "try --arch resnet32_cifar");
  EXPECT_SAYS(failure(hollow_cnn("efficientnet_lite0"), small, Code::kShapeMismatch),
              "try --arch efficientnet_lite0 or tf_efficientnet_lite0");
  EXPECT_SAYS(failure(hollow_cnn("resnet34"), architecture("vit_small_patch16_224"), Code::kShapeMismatch),
              "it is a convolutional network under the names of torchvision: try --arch resnet34");
  NamedTensors vit;  // enough to be recognised
  vit["patch_embed.proj.weight"] = at::zeros({384, 3, 16, 16});
  EXPECT_SAYS(failure(vit, small, Code::kShapeMismatch), "it is a vision transformer under the names of timm");
}

TEST(ImportCnn, SurvivesTensorsOfAnyRank) {
  const ModelFiles toy = toy_cnn();
  const NamedTensors good = resnet_checkpoint(toy);
  for (const auto& [name, tensor] : good) {
    if (name.ends_with(".num_batches_tracked")) continue;
    for (const std::vector<std::int64_t>& shape : {std::vector<std::int64_t>{}, {0}, {1}, {2, 0, 3}, {1, 1, 1, 1, 1}}) {
      NamedTensors tensors = good;
      tensors[name] = at::zeros(shape);
      failure(tensors, toy.config, Code::kShapeMismatch);
    }
  }
}

}  // namespace
}  // namespace recast
