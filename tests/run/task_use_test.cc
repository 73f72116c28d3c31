// What is done with a learned task: measure, predict, export, import, remove, compare.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "format/expect_error.h"
#include "recast/data/image.h"
#include "recast/format/files.h"
#include "recast/run/describe_methods.h"
#include "recast/run/evaluate_task.h"
#include "recast/run/inspect_directory.h"
#include "recast/run/learn_task.h"
#include "recast/run/predict_images.h"
#include "recast/run/settings.h"
#include "recast/run/task_commands.h"
#include "run/toy_model.h"

namespace recast {
namespace {
namespace fs = std::filesystem;
using ::testing::HasSubstr;

/// One model with one learned task for all tests of this file, and a folder of each test's own.
class TaskUse : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    shared_ = new TemporaryFolder;
    write_toy_model(*shared_ / "model");
    write_toy_images(*shared_ / "data", {"blue", "green", "red"}, 12);
    LearnRequest request;
    request.directory = *shared_ / "model";
    request.data = *shared_ / "data";
    request.task = "colours";
    request.epochs = 1;
    learn_task(request);
  }
  static void TearDownTestSuite() { delete shared_; }

  TaskUse() { fs::copy(*shared_ / "model", own_ / "model", fs::copy_options::recursive); }
  ModelDirectory open(bool read_only = true) const { return ModelDirectory::open(own_ / "model", read_only); }
  fs::path image(const std::string& name) const { return *shared_ / "data" / name; }
  nlohmann::json predict(const ModelDirectory& directory, std::vector<fs::path> images,
                         const std::string& task = "colours") {
    PredictRequest request;
    request.task = task;
    request.images = std::move(images);
    return predict_images(directory, request)["predictions"];
  }

  static inline TemporaryFolder* shared_ = nullptr;
  TemporaryFolder own_;
};

TEST_F(TaskUse, PredictsARowAloneAsAmongOthers) {
  const ModelDirectory directory = open();
  const nlohmann::json all = predict(directory, {image("blue/0.png"), image("green/3.png"), image("red/5.png")});
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(predict(directory, {image("red/5.png")})[0], all[2]);
  double sum = 0;
  for (const auto& entry : all[0]["top"]) sum += entry["probability"].get<double>();
  EXPECT_NEAR(sum, 1, 1e-9);
  EXPECT_EQ(all[0]["label"], all[0]["top"][0]["label"]);
}

TEST_F(TaskUse, WritesFeaturesOnceUnlessForced) {
  const ModelDirectory directory = open();
  PredictRequest request;
  request.task = "colours";
  request.images = {image("blue/0.png"), image("red/0.png")};
  request.features = own_ / "features.safetensors";
  predict_images(directory, request);
  const TensorFile file = read_tensor_file(request.features);
  EXPECT_EQ(file.tensors.at("features").sizes(), (std::vector<std::int64_t>{2, 32}));
  EXPECT_EQ(file.metadata.at("task"), "colours");
  EXPECT_THAT(error_of(Code::kAlreadyExists, [&] { predict_images(directory, request); }), HasSubstr("--force"));
}

TEST_F(TaskUse, PredictRefusesWhatItCannotRead) {
  const ModelDirectory directory = open();
  EXPECT_THAT(error_of(Code::kNotFound, [&] { predict(directory, {own_ / "no.png"}); }), HasSubstr("no.png"));
  write_text(own_ / "bad.png", "not an image");
  EXPECT_THAT(error_of(Code::kUnsupported, [&] { predict(directory, {own_ / "bad.png"}); }), HasSubstr("bad.png"));
  EXPECT_THAT(error_of(Code::kNotFound, [&] { predict(directory, {image("blue/0.png")}, "colour"); }),
              HasSubstr("did you mean 'colours'"));
  EXPECT_THAT(error_of(Code::kNotFound, [&] { predict(directory, {image("blue/0.png")}, "colours:9"); }),
              HasSubstr("version 9"));
}

TEST_F(TaskUse, EvaluatesOtherDataByTheNamesOfItsLabels) {
  // The same classes under folders that sort differently would have other numbers; only names count.
  write_toy_images(own_ / "set" / "train", {"blue", "green", "red"}, 3);
  write_toy_images(own_ / "set" / "test", {"blue", "green", "red"}, 4);
  EvaluateRequest request;
  request.task = "colours";
  request.data = own_ / "set";
  const nlohmann::json result = evaluate_tasks(open(), request);
  EXPECT_EQ(result["rows"], 12);
  EXPECT_TRUE(result["notes"].empty());
  write_toy_images(own_ / "more" / "train", {"blue", "green", "violet"}, 3);
  write_toy_images(own_ / "more" / "test", {"blue", "green", "violet"}, 3);
  request.data = own_ / "more";
  const std::string message = error_of(Code::kShapeMismatch, [&] { evaluate_tasks(open(), request); });
  EXPECT_THAT(message, HasSubstr("only the data has 'violet'"));
  EXPECT_THAT(message, HasSubstr("only the task has 'red'"));
}

TEST_F(TaskUse, EvaluateSaysWhenTheImagesHaveChanged) {
  fs::copy(*shared_ / "data", own_ / "data", fs::copy_options::recursive);
  LearnRequest request;
  request.directory = own_ / "model";
  request.data = own_ / "data";
  request.task = "copy";
  request.plugs = {"linear-probe"};
  request.epochs = 0;
  learn_task(request);
  EvaluateRequest evaluation;
  evaluation.task = "copy";
  EXPECT_TRUE(evaluate_tasks(open(), evaluation)["notes"].empty());
  write_toy_images(own_ / "data", {"blue", "green", "red"}, 20);
  EXPECT_THAT(evaluate_tasks(open(), evaluation)["notes"][0].get<std::string>(), HasSubstr("are not those"));
}

TEST_F(TaskUse, EvaluatesEveryTask) {
  const nlohmann::json all = evaluate_tasks(open(), {});
  ASSERT_EQ(all["tasks"].size(), 1u);
  EXPECT_EQ(all["tasks"][0]["task"], "colours");
  EXPECT_TRUE(all["skipped"].empty());
}

TEST_F(TaskUse, TravelsInOneFileToTheSameBackboneOnly) {
  const fs::path file = own_ / "colours.safetensors";
  export_task(open(), "colours", file, false);
  EXPECT_THAT(error_of(Code::kAlreadyExists, [&] { export_task(open(), "colours", file, false); }),
              HasSubstr("--force"));
  const nlohmann::json report = import_task_file(open(false), file, "twin");
  EXPECT_EQ(report["version"], 1);
  EXPECT_EQ(predict(open(), {image("red/1.png")}, "twin"), predict(open(), {image("red/1.png")}));
  EXPECT_TRUE(diff_tasks(open(), "colours", "twin")["equal"].get<bool>());

  write_toy_model(own_ / "stranger", 2);
  const ModelDirectory stranger = ModelDirectory::open(own_ / "stranger", false);
  const std::string message = error_of(Code::kShapeMismatch, [&] { import_task_file(stranger, file, ""); });
  EXPECT_THAT(message, HasSubstr(open().fingerprint()));
  EXPECT_THAT(message, HasSubstr(stranger.fingerprint()));
  EXPECT_TRUE(list_tasks(stranger, true)["tasks"].empty());
}

TEST_F(TaskUse, GivesTheBareBackbonesFeaturesWithoutATask) {
  PredictRequest request;
  request.images = {image("red/1.png")};
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { predict_images(open(), request); }), HasSubstr("--task"));
  request.features = own_ / "bare.safetensors";
  EXPECT_TRUE(predict_images(open(), request)["predictions"].empty());
  const ModelDirectory directory = open();
  PlainRoute route(*directory.backbone());
  const Preprocessing& p = directory.files().config.preprocessing;
  const at::Tensor pixels = evaluation_pixels(decode_image(read_file(image("red/1.png"), 1 << 20), "red"), p);
  const at::Tensor expected = directory.backbone()->features(normalise(pixels.unsqueeze(0), p), route);
  EXPECT_TRUE(at::allclose(read_tensor_file(request.features).tensors.at("features"), expected, 1e-5, 1e-5));
}

TEST_F(TaskUse, RefusesATaskFileWhoseNumbersDoNotFit) {
  TaskRecord record = open().record("colours");
  for (auto& [plug, scopes] : record.numbers.plugs())
    if (scopes[Scope::kTask].has("c@blocks.0.attn.qkv"))
      scopes[Scope::kTask].set("c@blocks.0.attn.qkv", at::ones({2, 1, 5}));
  write_file_atomically(own_ / "misfit.safetensors", encode_task(record));
  EXPECT_THAT(error_of(Code::kShapeMismatch, [&] { import_task_file(open(false), own_ / "misfit.safetensors", "x"); }),
              HasSubstr("do not fit this backbone"));
  record = open().record("colours");
  State& whole = record.numbers.at("recast", Scope::kTask);
  whole.set("c8@blocks.0.attn.qkv", at::zeros({2, 1, 2}, at::kChar));  // in place of c, and no step beside it
  whole.erase("c@blocks.0.attn.qkv");
  write_file_atomically(own_ / "stepless.safetensors", encode_task(record));
  EXPECT_THAT(
      error_of(Code::kShapeMismatch, [&] { import_task_file(open(false), own_ / "stepless.safetensors", "x"); }),
      HasSubstr("no number 'step'"));
  record = open().record("colours");
  record.labels.pop_back();
  write_file_atomically(own_ / "labels.safetensors", encode_task(record));
  EXPECT_THAT(error_of(Code::kShapeMismatch, [&] { import_task_file(open(false), own_ / "labels.safetensors", "x"); }),
              HasSubstr("rows for"));
  record = open().record("colours");
  record.recipe["image_size"] = "large";
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { encode_task(record); }), HasSubstr("large"));
  record.recipe["image_size"] = 4097;
  write_file_atomically(own_ / "size.safetensors", encode_task(record));
  EXPECT_THAT(error_of(Code::kDataCorruption, [&] { import_task_file(open(false), own_ / "size.safetensors", "x"); }),
              HasSubstr("4096"));
  EXPECT_EQ(list_tasks(open(), true)["tasks"].size(), 1u);
}

TEST_F(TaskUse, IsHiddenBroughtBackAndErased) {
  remove_task(open(false), "colours", false);
  EXPECT_TRUE(list_tasks(open(), false)["tasks"].empty());
  EXPECT_EQ(list_tasks(open(), true)["tasks"].size(), 1u);
  EXPECT_EQ(rollback_task(open(false), "colours", "")["version"], 2);
  EXPECT_EQ(log_task(open(), "colours")["versions"].size(), 2u);
  EXPECT_FALSE(show_task(open(), "colours:1")["numbers"].empty());
  remove_task(open(false), "colours", true);
  EXPECT_TRUE(list_tasks(open(), true)["tasks"].empty());
  EXPECT_THAT(error_of(Code::kNotFound, [&] { remove_task(open(false), "colours", false); }), HasSubstr("colours"));
}

TEST_F(TaskUse, InspectCountsWhatIsThere) {
  const nlohmann::json report = inspect_directory(open());
  EXPECT_EQ(report["coefficients"], 16);
  EXPECT_EQ(report["groups"].size(), 2u);
  EXPECT_EQ(report["groups"][0]["slots"].size(), 2u);
  EXPECT_EQ(report["tasks"], 1);
  EXPECT_EQ(report["feature_width"], 32);
  std::int64_t numbers = 0;
  for (const auto& [name, tensor] : toy_vit(1, toy_vit_config(4)).backbone) numbers += tensor.numel();
  EXPECT_EQ(report["parameters"], numbers);
}

TEST(DescribeMethods, ListsEveryPlugInWithItsOptions) {
  const nlohmann::json all = describe_methods();
  EXPECT_EQ(all["methods"].size(), Registry::instance().all().size());
  EXPECT_EQ(describe_methods("recast")["methods"][0]["options"][0]["name"], "grain");
  EXPECT_THAT(error_of(Code::kInvalidArgument, [] { describe_methods("recats"); }), HasSubstr("did you mean 'recast'"));
}

TEST(Settings, SurviveTheirYaml) {
  TemporaryFolder folder;
  const Settings settings = {
      {"task", {"a: b # c"}}, {"plug", {"recast:grain=head", "ce"}}, {"seed", {"42"}}, {"x", {""}}};
  write_text(folder / "config.yaml", settings_yaml(settings));
  EXPECT_EQ(read_settings(folder / "config.yaml"), settings);
}

TEST(Settings, RefuseWhatIsNoListOfValues) {
  TemporaryFolder folder;
  auto refused = [&](Code code, const std::string& yaml) {
    write_text(folder / "config.yaml", yaml);
    return error_of(code, [&] { read_settings(folder / "config.yaml"); });
  };
  EXPECT_THAT(refused(Code::kInvalidArgument, "a: {b: c}\n"), HasSubstr("'a'"));
  EXPECT_THAT(refused(Code::kInvalidArgument, "a: 1\na: 2\n"), HasSubstr("twice"));
  EXPECT_THAT(refused(Code::kInvalidArgument, "- a\n"), HasSubstr("key: value"));
  EXPECT_THAT(refused(Code::kDataCorruption, "a: [1\n"), HasSubstr("line"));
}

}  // namespace
}  // namespace recast
