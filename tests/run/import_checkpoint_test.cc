#include "recast/run/import_checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "format/expect_error.h"
#include "recast/run/mimic_directory.h"
#include "recast/run/predict_images.h"
#include "run/toy_model.h"

namespace recast {
namespace {
namespace fs = std::filesystem;
using ::testing::HasSubstr;

class ImportModel : public ::testing::Test {
 protected:
  fs::path write(const NamedTensors& tensors) const {
    write_tensor_file(folder_ / "checkpoint.safetensors", {tensors, {}});
    return folder_ / "checkpoint.safetensors";
  }
  ImportRequest request(const fs::path& checkpoint) const {
    ImportRequest request;
    request.checkpoint = checkpoint;
    request.architecture = "vit_tiny_patch16_224";
    request.out = folder_ / "model";
    return request;
  }
  std::string refused(Code code, const ImportRequest& request) const {
    const auto before = paths_below(folder_.path());
    const std::string message = error_of(code, [&] { import_model(request); });
    EXPECT_EQ(paths_below(folder_.path()), before);
    return message;
  }
  TemporaryFolder folder_;
};

std::vector<float> logits_of(const nlohmann::json& document) { return document["predictions"][0]["logits"]; }

nlohmann::json predict(const fs::path& model, const fs::path& image, const fs::path& features = {}) {
  PredictRequest request;
  request.task = kPretrainedTask;
  request.images = {image};
  request.features = features;
  return predict_images(ModelDirectory::open(model, true), request);
}

TEST_F(ImportModel, KeepsTheClassifierAsATaskThatMimicryCarriesOver) {
  const NamedTensors tensors = tiny_checkpoint(4);
  ImportRequest wanted = request(write(tensors));
  write_text(folder_ / "labels.txt",
             "\xef\xbb\xbf"
             "cat\r\ndog\r\ncow\r\nhen\r\n\r\n");
  wanted.labels = folder_ / "labels.txt";
  const nlohmann::json report = import_model(wanted);
  EXPECT_EQ(report["naming"], "timm");
  EXPECT_EQ(report["task"], nlohmann::json({{"name", "pretrained"}, {"classes", 4}}));
  EXPECT_EQ(report["bytes"], 4 * report["parameters"].get<std::int64_t>());

  write_toy_images(folder_ / "images", {"x"}, 1);
  const fs::path image = folder_ / "images" / "x" / "0.png";
  const nlohmann::json document = predict(folder_ / "model", image, folder_ / "features.safetensors");
  EXPECT_EQ(document["labels"], nlohmann::json({"cat", "dog", "cow", "hen"}));
  const at::Tensor features = read_tensor_file(folder_ / "features.safetensors").tensors.at("features");
  const at::Tensor expected = at::linear(features, tensors.at("head.weight"), tensors.at("head.bias"))[0];
  const std::vector<float> logits = logits_of(document);
  for (int c = 0; c < 4; ++c) EXPECT_NEAR(logits[c], expected[c].item<float>(), 1e-5);

  MimicRequest mimicry{folder_ / "model", {}, folder_ / "mimicked"};
  const nlohmann::json made = mimic_directory(mimicry);
  EXPECT_EQ(made["tasks"]["kept"], nlohmann::json({"pretrained"}));
  EXPECT_EQ(made["coefficients"], 48);
  EXPECT_LT(made["worst_relative_error"], 1e-6);
  const std::vector<float> mimicked = logits_of(predict(folder_ / "mimicked", image));
  for (int c = 0; c < 4; ++c) EXPECT_NEAR(mimicked[c], logits[c], 1e-5);
  EXPECT_THAT(error_of(Code::kAlreadyExists, [&] { mimic_directory(mimicry); }), HasSubstr("--force"));
}

TEST_F(ImportModel, TakesPreprocessingFromTheRequest) {
  ImportRequest wanted = request(write(tiny_checkpoint(0)));
  wanted.mean = {0.1, 0.2, 0.3};
  wanted.crop_pct = 0.9;
  wanted.image_size = 96;
  const nlohmann::json report = import_model(wanted);
  EXPECT_TRUE(report["task"].is_null());
  EXPECT_EQ(report["preprocessing"]["mean"], nlohmann::json({0.1, 0.2, 0.3}));
  EXPECT_EQ(report["preprocessing"]["size_px"], 96);
  wanted.out = folder_ / "other";
  wanted.crop_pct = 7;
  EXPECT_THAT(refused(Code::kInvalidArgument, wanted), HasSubstr("crop_pct"));
}

TEST_F(ImportModel, TakesThePositionGridOfAnotherSizeWhereThatSizeIsAsked) {
  NamedTensors tuned = tiny_checkpoint(2);
  tuned["pos_embed"] = Key(7).normal({1, 1 + 6 * 6, 192});
  ImportRequest wanted = request(write(tuned));
  EXPECT_THAT(refused(Code::kShapeMismatch, wanted), HasSubstr("give --image-size 96"));
  wanted.image_size = 96;
  const nlohmann::json report = import_model(wanted);
  EXPECT_EQ(report["preprocessing"]["size_px"], 96);
  EXPECT_EQ(report["vit"]["grid"], 6);
  write_toy_images(folder_ / "images", {"x"}, 1);
  const fs::path image = folder_ / "images" / "x" / "0.png";
  predict(wanted.out, image, folder_ / "features.safetensors");
  EXPECT_TRUE(
      at::isfinite(read_tensor_file(folder_ / "features.safetensors").tensors.at("features")).all().item<bool>());
}

TEST_F(ImportModel, TakesPoolingFromTheRequest) {
  ImportRequest wanted = request(write(tiny_checkpoint(0)));
  wanted.pooling = "token+average";
  import_model(wanted);
  EXPECT_EQ(ModelDirectory::open(wanted.out, true).backbone()->feature_width(), 2 * 192);
  wanted.force = true;
  wanted.pooling = "median";
  EXPECT_THAT(refused(Code::kInvalidArgument, wanted), HasSubstr("median"));
  wanted.pooling = "token+average";
  write(tiny_checkpoint(4));
  EXPECT_THAT(refused(Code::kShapeMismatch, wanted), HasSubstr("192")) << "its classifier reads the token alone";
}

TEST_F(ImportModel, OverwritesWithForceOnly) {
  const ImportRequest wanted = request(write(tiny_checkpoint(0)));
  import_model(wanted);
  EXPECT_THAT(refused(Code::kAlreadyExists, wanted), HasSubstr("--force"));
  ImportRequest forced = wanted;
  forced.force = true;
  EXPECT_NO_THROW(import_model(forced));
}

TEST_F(ImportModel, RefusesBadCheckpointsAndWritesNothing) {
  using enum Code;
  EXPECT_THAT(refused(kNotFound, request(folder_ / "nowhere.safetensors")), HasSubstr("nowhere"));
  const NamedTensors good = tiny_checkpoint(4);
  ImportRequest other = request(write(good));
  other.architecture = "vit_small_patch16_224";
  EXPECT_THAT(refused(kShapeMismatch, other), HasSubstr("vit_tiny_patch16_224"));
  other.architecture = "vit_tini_patch16_224";
  EXPECT_THAT(refused(kUnsupported, other), HasSubstr("did you mean vit_tiny_patch16_224"));

  NamedTensors bad = good;
  bad.erase("blocks.3.mlp.fc1.bias");
  EXPECT_THAT(refused(kShapeMismatch, request(write(bad))), HasSubstr("blocks.3.mlp.fc1.bias"));
  bad = good;
  bad["blocks.0.extra"] = at::zeros({3});
  EXPECT_THAT(refused(kShapeMismatch, request(write(bad))), HasSubstr("blocks.0.extra"));
  bad = good;
  bad["norm.weight"] = at::ones({7});
  EXPECT_THAT(refused(kShapeMismatch, request(write(bad))), HasSubstr("norm.weight"));
  bad = good;
  bad["norm.weight"] = at::full({192}, std::numeric_limits<float>::quiet_NaN());
  EXPECT_THAT(refused(kDataCorruption, request(write(bad))), HasSubstr("norm.weight"));

  const std::string whole = read_file(write(good), 1 << 30);
  write_text(folder_ / "checkpoint.safetensors", whole.substr(0, whole.size() - 100));
  EXPECT_THAT(refused(kDataCorruption, request(folder_ / "checkpoint.safetensors")), HasSubstr("checkpoint"));
}

TEST_F(ImportModel, RefusesLabelsThatDoNotFitTheClassifier) {
  ImportRequest wanted = request(write(tiny_checkpoint(3)));
  wanted.labels = folder_ / "labels.txt";
  write_text(wanted.labels, "a\nb\n");
  EXPECT_THAT(refused(Code::kShapeMismatch, wanted), HasSubstr("2 labels for a classifier of 3"));
  write_text(wanted.labels, "a\nb\na\n");
  EXPECT_THAT(refused(Code::kUnsupported, wanted), HasSubstr("'a' twice"));
  wanted.checkpoint = write(tiny_checkpoint(0));
  EXPECT_THAT(refused(Code::kInvalidArgument, wanted), HasSubstr("no classifier"));
}

}  // namespace
}  // namespace recast
