// What `recast export` writes, judged by onnx's checker and by onnxruntime's answers beside ours.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "format/expect_error.h"
#include "format/python_tool.h"
#include "model/toy_cnn.h"
#include "recast/format/onnx_graph.h"
#include "recast/run/export_onnx.h"
#include "recast/run/learn_task.h"
#include "run/toy_model.h"

namespace recast {
namespace {
namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kModules = "onnx, onnxruntime, numpy, safetensors";

class OnnxExport : public ::testing::Test {
 protected:
  /// A mimicked directory of a network and images to learn from.
  void make(ModelFiles files, MimicryOptions options = {}) {
    write_model_files(folder_ / "model", mimic(std::move(files), options).files, false);
    write_toy_images(folder_ / "data", {"blue", "green", "red"}, 8);
    write_toy_images(folder_ / "two", {"blue", "red"}, 8);
  }
  void make_vit(const std::string& target = "attn+mlp") {
    MimicryOptions options;
    options.target = target;
    options.groups = 2;
    make(toy_vit(1, toy_vit_config(4)), options);
  }

  ModelDirectory open() const { return ModelDirectory::open(folder_ / "model", false); }

  /// A task as learning makes it, its numbers then moved far from where they began.
  void learn(const std::string& task, const std::vector<std::string>& plugs, const std::string& data = "data",
             std::int64_t image_size = 16) {
    LearnRequest request;
    request.directory = folder_ / "model";
    request.data = folder_ / data;
    request.task = task;
    request.plugs = plugs;
    request.epochs = 1;
    request.test = false;
    request.image_size = image_size;
    learn_task(request);
    shake(task, task);
  }

  /// Stores `from` as `to`, every fp32 number moved by noise that depends on the new name.
  void shake(const std::string& from, const std::string& to) {
    const ModelDirectory directory = open();
    TaskRecord record = directory.record(from);
    record.name = to;
    for (auto& [plug, scopes] : record.numbers.plugs()) {
      State moved = scopes[Scope::kTask];
      for (const auto& [name, number] : scopes[Scope::kTask])
        if (const auto* tensor = std::get_if<at::Tensor>(&number); tensor && tensor->scalar_type() == at::kFloat)
          moved.set(name, *tensor + 0.1 * Key(3).fold(to).fold(name).normal(tensor->sizes()));
      scopes[Scope::kTask] = moved;
    }
    directory.store().commit(record);
  }

  at::Tensor logits(const std::string& task, const at::Tensor& images) const {
    const at::NoGradGuard no_grad;
    return open().load(task).model.forward({{{"input", images}}, images.size(0)}, {}).at("logits");
  }

  nlohmann::json write(const std::string& file, const std::string& task = {}, bool per_row = false,
                       const std::string& like = {}, std::int64_t image_size = 0) {
    OnnxRequest request;
    request.image_size = image_size;
    request.file = folder_ / file;
    request.task = task;
    request.per_row = per_row;
    request.like = like;
    return export_onnx(open(), request);
  }

  NamedTensors inputs(const std::string& task, const std::string& like = {}) {
    export_onnx_inputs(open(), task, folder_ / "inputs.safetensors", like, true);
    return read_tensor_file(folder_ / "inputs.safetensors").tensors;
  }

  void expect(const std::string& model, const NamedTensors& feed, const at::Tensor& want) {
    TensorFile file;
    for (const auto& [name, tensor] : feed) file.tensors["feed." + name] = tensor;
    file.tensors["want.logits"] = want;
    const fs::path path = folder_ / fmt::format("case{}.safetensors", cases_.size());
    write_tensor_file(path, file);
    cases_.push_back((folder_ / model).string());
    cases_.push_back(path.string());
  }
  void expect_task(const std::string& model, const std::string& task, std::int64_t rows, const std::string& like = {}) {
    NamedTensors feed = inputs(task, like);
    feed["image"] = toy_images(rows);
    expect(model, feed, logits(task, feed["image"]));
  }
  /// A batch with a task for each row.
  void expect_mixed(const std::string& model, const std::vector<std::string>& tasks, std::int64_t size_px = 16) {
    const at::Tensor images = toy_images(static_cast<std::int64_t>(tasks.size()), size_px);
    std::map<std::string, std::vector<at::Tensor>> rows;
    std::vector<at::Tensor> want;
    for (std::size_t r = 0; r < tasks.size(); ++r) {
      for (const auto& [name, tensor] : inputs(tasks[r])) rows[name].push_back(tensor);
      want.push_back(logits(tasks[r], images.slice(0, r, r + 1)));
    }
    NamedTensors feed = {{"image", images}};
    for (const auto& [name, tensors] : rows) feed[name] = at::stack(tensors);
    expect(model, feed, at::cat(want));
  }

  /// What onnx_check.py says of each case.
  std::vector<nlohmann::json> check() {
    std::vector<std::string> words = {python_path(), RECAST_SOURCE_DIR "/tests/run/onnx_check.py"};
    words.insert(words.end(), cases_.begin(), cases_.end());
    const Outcome outcome = run_program(words);
    EXPECT_EQ(outcome.status, 0) << outcome.text;
    std::vector<nlohmann::json> facts;
    std::istringstream lines(outcome.text);
    for (std::string line; std::getline(lines, line);)
      if (line.starts_with("{")) facts.push_back(nlohmann::json::parse(line));
    EXPECT_EQ(facts.size(), cases_.size() / 2) << outcome.text;
    return facts;
  }

  TemporaryFolder folder_;
  std::vector<std::string> cases_;
};

class OnnxGrain : public OnnxExport, public ::testing::WithParamInterface<std::string> {};

TEST_P(OnnxGrain, AnswersThreeTasksAndAMixedBatchAsWeDo) {
  RECAST_NEED_PYTHON(kModules);
  make_vit("all");
  learn("first", {GetParam()});
  shake("first", "second");
  shake("second", "third");
  write("one.onnx");
  const nlohmann::json mixed = write("rows.onnx", {}, /*per_row=*/true);
  EXPECT_EQ(mixed["tasks"], nlohmann::json({"first", "second", "third"}));
  for (const char* task : {"first", "second", "third"}) expect_task("one.onnx", task, 5);
  expect_mixed("rows.onnx", {"first", "third", "second", "first"});
  write("tokens.onnx", {}, true, {}, 36);  // 82 tokens: a weight for each row is cheaper than both templates
  expect_mixed("tokens.onnx", {"second", "first", "third"}, 36);
  const auto facts = check();
  ASSERT_EQ(facts.size(), 5u);
  for (const nlohmann::json& each : facts) EXPECT_LE(each["difference"], 1e-4);
  EXPECT_THAT(facts[3]["initialisers"].dump(), HasSubstr("bank.0.matrix1"));
  EXPECT_THAT(facts[4]["initialisers"].dump(), Not(HasSubstr("matrix")));
  EXPECT_GT((logits("first", toy_images(1)) - logits("third", toy_images(1))).abs().max().item<double>(), 0.1);
}

// A block of 24 leaves a short last block in rows of 32 and 96.
INSTANTIATE_TEST_SUITE_P(All, OnnxGrain,
                         ::testing::Values("recast", "recast:grain=part", "recast:grain=head",
                                           "recast:grain=block,block=24", "recast:grain=head,bits=8"),
                         [](const auto& info) { return fmt::format("Case{}", info.index); });

TEST_F(OnnxExport, ConvolutionsTakeTheirKernelsFromCoefficients) {
  RECAST_NEED_PYTHON(kModules);
  make(toy_cnn());
  learn("first", {"recast:grain=block,block=3"});
  shake("first", "second");
  shake("second", "third");
  write("one.onnx");
  write("rows.onnx", {}, true);
  for (const char* task : {"first", "second", "third"}) expect_task("one.onnx", task, 3);
  expect_mixed("rows.onnx", {"third", "first", "second"});
  const auto facts = check();
  ASSERT_EQ(facts.size(), 4u);
  EXPECT_EQ(facts[0]["inputs"]["image"], (nlohmann::json{"batch", 3, 16, 16}));
  EXPECT_EQ(facts[0]["inputs"]["head_weight"], (nlohmann::json{"classes", 16}));
  EXPECT_EQ(facts[3]["inputs"]["head_weight"], (nlohmann::json{"batch", "classes", 16}));
}

TEST_F(OnnxExport, DepthwiseKernelsAndSamePaddingComeOutAlike) {
  RECAST_NEED_PYTHON(kModules);
  make(toy_cnn(1, toy_cnn_config("inverted")));
  learn("first", {"recast"});
  shake("first", "second");
  write("one.onnx");
  write("rows.onnx", {}, true);
  write("baked.onnx", "second");
  expect_task("one.onnx", "second", 2);
  expect_mixed("rows.onnx", {"second", "first"});
  expect("baked.onnx", {{"image", toy_images(3)}}, logits("second", toy_images(3)));
  check();
}

TEST_F(OnnxExport, EveryKindOfResNetIsDrawn) {
  RECAST_NEED_PYTHON(kModules);
  CnnConfig bottleneck = toy_cnn_config("bottleneck"), padded = toy_cnn_config();
  bottleneck.stem_pool = true;
  bottleneck.stem_kernel = 7;
  padded.shortcut = "pad";
  padded.stem_stride = 1;
  const CnnConfig odd = toy_cnn_config("inverted");
  int n = 0;
  for (const CnnConfig& cnn : {bottleneck, padded, odd}) {
    fs::remove_all(folder_ / "model");
    fs::remove_all(folder_ / "data");
    fs::remove_all(folder_ / "two");
    make(toy_cnn(1, cnn));
    const std::int64_t size = n == 2 ? 19 : 16;  // uneven halves: "same" padding is not the same on both sides
    learn("task", {"linear-probe"}, "data", size);
    const std::string file = fmt::format("net{}.onnx", n++);
    write(file, "task");
    expect(file, {{"image", toy_images(2, size)}}, logits("task", toy_images(2, size)));
  }
  check();
}

TEST_F(OnnxExport, TransformersWithEveryExtraAreDrawn) {
  RECAST_NEED_PYTHON(kModules);
  VitConfig dino = toy_vit_config(2), plain = toy_vit_config(2);
  dino.register_tokens = 3;
  dino.layer_scale = true;
  dino.class_position = false;
  dino.pooling = "token+average";
  dino.pos_interpolation = "bicubic";
  plain.class_token = plain.class_position = plain.qkv_bias = false;
  plain.pooling = "average";
  int n = 0;
  for (const VitConfig& vit : {dino, plain}) {
    fs::remove_all(folder_ / "model");
    fs::remove_all(folder_ / "data");
    fs::remove_all(folder_ / "two");
    MimicryOptions options;
    options.groups = 1;
    make(toy_vit(1, vit), options);
    learn("task", {"recast"}, "data", 24);  // positions are resampled
    const std::string file = fmt::format("vit{}.onnx", n++);
    write(file, "task");
    write("in-" + file);
    expect(file, {{"image", toy_images(2, 24)}}, logits("task", toy_images(2, 24)));
    NamedTensors feed = inputs("task");
    feed["image"] = toy_images(2, 24);
    expect("in-" + file, feed, logits("task", feed["image"]));
  }
  const auto facts = check();
  ASSERT_EQ(facts.size(), 4u);
  EXPECT_EQ(facts[0]["inputs"]["image"], (nlohmann::json{"batch", 3, 24, 24}));
}

TEST_F(OnnxExport, BakesWhateverActsOnWeights) {
  RECAST_NEED_PYTHON(kModules);
  make_vit("attn");
  int n = 0;
  for (const char* plug : {"lora:rank=2", "norm-tuning", "piggyback", "finetune:scope=task", "recast:grain=head"}) {
    const std::string task = fmt::format("task{}", n);
    learn(task, {plug, n == 0 ? "linear-probe:bits=4" : "linear-probe"});
    const std::string file = fmt::format("{}.onnx", n++);
    write(file, task);
    expect(file, {{"image", toy_images(4)}}, logits(task, toy_images(4)));
  }
  const auto facts = check();
  ASSERT_FALSE(facts.empty());
  EXPECT_EQ(facts[0]["inputs"].size(), 1u);
  const nlohmann::json& metadata = facts[0]["metadata"];
  EXPECT_EQ(metadata["recast.form"], "baked");
  EXPECT_EQ(metadata["recast.task"], "task0");
  EXPECT_EQ(nlohmann::json::parse(metadata["recast.labels"].get<std::string>()),
            (nlohmann::json{"blue", "green", "red"}));
  EXPECT_EQ(nlohmann::json::parse(metadata["recast.preprocessing"].get<std::string>())["size_px"], 16);
  EXPECT_EQ(metadata["recast.fingerprint"], open().fingerprint());
}

TEST_F(OnnxExport, WeightsMayLieInAFileBeside) {
  RECAST_NEED_PYTHON(kModules);
  make_vit();
  learn("task", {"recast"});
  OnnxRequest request;
  request.file = folder_ / "model.onnx";
  request.external_data = true;
  const nlohmann::json report = export_onnx(open(), request);
  EXPECT_EQ(report["data"], (folder_ / "model.onnx.data").string());
  EXPECT_GT(fs::file_size(folder_ / "model.onnx.data"), 4 * fs::file_size(folder_ / "model.onnx") / 3);
  EXPECT_EQ(report["bytes"], fs::file_size(folder_ / "model.onnx") + fs::file_size(folder_ / "model.onnx.data"));
  expect_task("model.onnx", "task", 2);
  check();
  EXPECT_THAT(error_of(Code::kAlreadyExists, [&] { export_onnx(open(), request); }), HasSubstr("--force"));
}

TEST_F(OnnxExport, ATaskOfWholeSlotsOrOfAHeadAloneFitsAFinerGraph) {
  RECAST_NEED_PYTHON(kModules);
  make_vit("attn");
  learn("fine", {"recast:grain=head"});
  learn("coarse", {"recast"}, "two");
  learn("probe", {"linear-probe"});
  const nlohmann::json report = write("one.onnx");
  EXPECT_EQ(report["tasks"], nlohmann::json({"coarse", "fine", "probe"}));
  for (const char* task : {"coarse", "fine", "probe"}) expect_task("one.onnx", task, 2);
  const auto facts = check();
  ASSERT_EQ(facts.size(), 3u);
  EXPECT_EQ(facts[0]["inputs"]["coefficients"], nlohmann::json::array({report["coefficients"]}));
}

TEST_F(OnnxExport, ATaskOfAFewChosenCoefficientsIsWhole) {
  RECAST_NEED_PYTHON(kModules);
  make_vit("all");
  learn("few", {"recast:grain=block,block=24,keep=40"});
  learn("rounded", {"recast:grain=block,block=24,keep=40,bits=8"});
  learn("whole", {"recast:grain=block,block=24"});
  learn("probe", {"linear-probe"}, "two");
  const std::vector<std::string> tasks = {"few", "probe", "rounded", "whole"};
  EXPECT_EQ(write("one.onnx")["tasks"], nlohmann::json(tasks));
  write("rows.onnx", {}, true);
  write("baked.onnx", "few");
  for (const std::string& task : tasks) expect_task("one.onnx", task, 3);
  expect_mixed("rows.onnx", {"few", "whole", "rounded", "few"});
  expect("baked.onnx", {{"image", toy_images(3)}}, logits("few", toy_images(3)));
  check();
  const at::Tensor own = inputs("probe").at("coefficients");  // the backbone's, of a head alone
  for (const char* task : {"few", "rounded"}) {
    const auto moved = inputs(task).at("coefficients").ne(own).sum().item<std::int64_t>();
    EXPECT_GT(moved, 0) << task;
    EXPECT_LE(moved, 40) << task;
  }
  EXPECT_GT(inputs("whole").at("coefficients").ne(own).sum().item<std::int64_t>(), 40);
}

TEST_F(OnnxExport, SaysWhichTasksAreNoInputsAndWhy) {
  make_vit("attn");
  learn("fine", {"recast:grain=head"});
  learn("other", {"lora:rank=2"});
  learn("beside", {"adaptformer:bottleneck=2"});
  const nlohmann::json report = write("one.onnx");
  EXPECT_EQ(report["tasks"], nlohmann::json::array({"fine"}));
  ASSERT_EQ(report["other_tasks"].size(), 2u);
  EXPECT_THAT(report["other_tasks"][0]["reason"].get<std::string>(), HasSubstr("'adaptformer' puts layers of its own"));
  EXPECT_THAT(report["other_tasks"][1]["reason"].get<std::string>(), HasSubstr("[lora] what it makes of blocks.0"));
  EXPECT_THAT(error_of(Code::kUnsupported, [&] { write("two.onnx", "beside"); }), HasSubstr("adaptformer"));
  EXPECT_THAT(error_of(Code::kUnsupported, [&] { write("two.onnx", {}, false, "other"); }), HasSubstr("lora"));
  EXPECT_FALSE(fs::exists(folder_ / "two.onnx"));
}

TEST_F(OnnxExport, AsksWhereTasksDiffer) {
  make_vit("attn");
  EXPECT_THAT(error_of(Code::kNotFound, [&] { write("one.onnx"); }), HasSubstr("learn one first"));
  learn("heads", {"recast:grain=head"});
  learn("blocks", {"recast:grain=block,block=8"});
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { write("one.onnx"); }),
              AllOf(HasSubstr("blocks"), HasSubstr("heads"), HasSubstr("--like")));
  EXPECT_EQ(write("one.onnx", {}, false, "heads")["tasks"], nlohmann::json::array({"heads"}));
  EXPECT_THAT(error_of(Code::kUnsupported, [&] { inputs("blocks", "heads"); }), HasSubstr("--like blocks"));
  learn("large", {"recast:grain=head"}, "data", 24);
  open().store().remove("blocks");
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { write("two.onnx"); }),
              AllOf(HasSubstr("16"), HasSubstr("24"), HasSubstr("--image-size")));
  EXPECT_EQ(write("two.onnx", {}, false, "large")["image_size"], 24);
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { write("three.onnx", "heads", true); }), HasSubstr("--per-row"));
}

TEST_F(OnnxExport, RefusesASizeThatDoesNotFit) {
  make_vit("attn");
  learn("task", {"recast"});
  OnnxRequest request;
  request.file = folder_ / "one.onnx";
  request.image_size = 18;
  EXPECT_THAT(error_of(Code::kShapeMismatch, [&] { export_onnx(open(), request); }), HasSubstr("16 or 20"));
}

TEST(OnnxGraph, RefusesMoreThanOneFileHolds) {
  const TemporaryFolder folder;
  OnnxGraph graph("large", "1");
  graph.tensor("weight", at::zeros({1}).expand({600'000'000}));  // one number in memory
  EXPECT_THAT(error_of(Code::kExhausted, [&] { write_onnx(folder / "large.onnx", graph, false); }),
              HasSubstr("beside"));
  EXPECT_EQ(folder.entries(), 0u);
}

}  // namespace
}  // namespace recast
