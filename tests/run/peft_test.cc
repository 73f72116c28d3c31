// Adapter folders of HF PEFT, in and out: the same logits there and here, and folders that must not come in.
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "conformance/toy_source.h"
#include "format/expect_error.h"
#include "format/python_tool.h"
#include "recast/format/files.h"
#include "recast/run/import_checkpoint.h"
#include "recast/run/task_commands.h"
#include "run/toy_model.h"

namespace recast {
namespace {
namespace fs = std::filesystem;
using ::testing::HasSubstr;

/// Largest difference over the largest element of b.
double relative(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).abs().max() / b.abs().max()).item<double>();
}

at::Tensor logits_of(const ModelDirectory& directory, const std::string& task, const at::Tensor& images) {
  const at::NoGradGuard no_grad;
  return directory.load(task).model.forward({{{"input", images}}, images.size(0)}, {}).at("logits");
}

std::string run_cases(const std::string& verb, const fs::path& folder) {
  const Outcome outcome =
      run_program({python_path(), RECAST_SOURCE_DIR "/tests/run/peft_cases.py", verb, folder.string()});
  return outcome.status == 0 ? "" : outcome.text;
}

nlohmann::ordered_json json_of(const fs::path& file) { return nlohmann::ordered_json::parse(read_file(file, 1 << 20)); }

// ---- Adapters that PEFT wrote --------------------------------------------------------------------------------------

const std::vector<std::string> kCases = {"vit",       "vit_patterns",  "vit_overlap",   "vit_base_head",
                                         "vit_layer", "vit_older",     "dinov2",        "dinov2_patches",
                                         "timm",      "timm_patterns", "vit_all_linear"};

/// Where the logits' last matrix comes from.
std::string head_of(const std::string& name) {
  if (name == "vit_base_head") return "pretrained";
  return name == "vit_all_linear" ? "pretrained+lora" : "adapter";
}

class Peft : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (!missing_python(kModules).empty()) return;
    shared_ = new TemporaryFolder;
    fault_ = run_cases("make", shared_->path());
    for (const std::string& name : kCases)
      if (fault_.empty()) make_directory(name);
    if (fault_.empty()) make_token_directory();
  }
  static void TearDownTestSuite() { delete shared_; }
  void SetUp() override {
    RECAST_NEED_PYTHON(kModules);
    ASSERT_EQ(fault_, "");
  }

  /// The case's checkpoint as a model directory, its own classifier as the task `pretrained`.
  static void make_directory(const std::string& name) {
    ModelConfig config = toy_vit().config;
    config.vit().layer_scale = name.starts_with("dinov2");
    ImportedCheckpoint imported =
        import_checkpoint(read_tensor_file(*shared_ / name / "base.safetensors").tensors, config, "base.safetensors");
    write_model_files(*shared_ / name / "model", imported.files, false);
    const ModelDirectory directory = open(name);
    TaskRecord task;
    task.name = kPretrainedTask;
    task.fingerprint = directory.fingerprint();
    const auto recipe = compose({}, directory.backbone()->anatomy());
    task.plugs = recipe->specs();
    for (int c = 0; c < 5; ++c) task.labels.push_back("base class " + std::to_string(c));
    const Plug& head = recipe->head();
    head.roles.head->adopt(imported.classifier_weight, imported.classifier_bias,
                           task.numbers.at(head.alias(), Scope::kTask));
    directory.store().commit(task);
  }
  /// The same DINOv2 without its classifier: features are the class token, unless the user says otherwise.
  static void make_token_directory(const std::string& name = "token", const std::string& pooling = "token") {
    ModelConfig config = toy_vit().config;
    config.vit().layer_scale = true;
    NamedTensors base = read_tensor_file(*shared_ / "dinov2" / "base.safetensors").tensors;
    base.erase("classifier.weight");
    base.erase("classifier.bias");
    ImportedCheckpoint imported = import_checkpoint(base, config, "base.safetensors");
    imported.files.config.vit().pooling = pooling;
    write_model_files(*shared_ / name / "model", imported.files, false);
  }
  static ModelDirectory open(const std::string& name) { return ModelDirectory::open(*shared_ / name / "model", false); }
  static fs::path adapter(const std::string& name) { return *shared_ / name / "adapter"; }
  static at::Tensor io(const std::string& name, const std::string& which) {
    return read_tensor_file(*shared_ / name / "io.safetensors").tensors.at(which);
  }

  static constexpr const char* kModules = "torch,safetensors,transformers,timm,torchvision,peft";
  static inline TemporaryFolder* shared_ = nullptr;
  static inline std::string fault_;
};

TEST_F(Peft, GivesTheLogitsOfPeft) {
  for (const std::string& name : kCases) {
    SCOPED_TRACE(name);
    const ModelDirectory directory = open(name);
    const nlohmann::json report = import_task_file(directory, adapter(name), "taken");
    EXPECT_EQ(report["head"], head_of(name));
    EXPECT_TRUE(report["ignored"].empty()) << report["ignored"];
    const at::Tensor images = io(name, "images"), expected = io(name, "logits"), base = io(name, "base_logits");
    EXPECT_GT(relative(base, expected), 0.02) << "the adapter changes nothing: the test proves nothing";
    EXPECT_LE(relative(logits_of(directory, kPretrainedTask, images), base), 1e-4) << "the base model itself";
    EXPECT_LE(relative(logits_of(directory, "taken", images), expected), 1e-4);
  }
}

TEST_F(Peft, GoesOutAndComesInBitByBit) {
  for (const std::string& name : kCases) {
    SCOPED_TRACE(name);
    const ModelDirectory directory = open(name);
    import_task_file(directory, adapter(name), "first");
    const fs::path folder = *shared_ / name / "again";
    const nlohmann::json out = export_peft_folder(directory, "first", folder, "", "", false);
    const nlohmann::json in = import_task_file(directory, folder, "second");
    EXPECT_EQ(in["names"], out["names"]);
    EXPECT_EQ(out["names"], name == "vit_older" ? "transformers4" : name.starts_with("timm") ? "timm" : "transformers");
    const TaskRecord first = directory.record("first"), second = directory.record("second");
    EXPECT_TRUE(equal(first.numbers, second.numbers));
    EXPECT_EQ(first.plugs, second.plugs);
    EXPECT_EQ(first.labels, second.labels);
    EXPECT_TRUE(at::equal(logits_of(directory, "first", io(name, "images")),
                          logits_of(directory, "second", io(name, "images"))));
    // What PEFT wrote and what recast writes of it are the same tensors under the same names.
    const NamedTensors theirs = read_tensor_file(adapter(name) / "adapter_model.safetensors").tensors;
    const NamedTensors ours = read_tensor_file(folder / "adapter_model.safetensors").tensors;
    for (const auto& [key, tensor] : theirs) {
      if (key.find(".classifier.lora_") != std::string::npos) continue;  // has become part of the head
      ASSERT_TRUE(ours.contains(key)) << key;
      EXPECT_TRUE(at::equal(tensor, ours.at(key))) << key;
    }
  }
}

/// Commits what plug-ins learn of the toy task on a backbone, under the given name.
void learn_toy(const ModelDirectory& directory, const std::string& name, const std::vector<std::string>& plugs) {
  const Recipe recipe = toy_recipe(/*epochs=*/2);
  const Learned learned =
      learn(toy_model(directory.backbone(), recipe, plugs), toy_task(name, 5), toy_sources(20, 5), recipe, {});
  TaskRecord task;
  task.name = name;
  task.fingerprint = directory.fingerprint();
  task.plugs = learned.model.recipe().specs();
  task.labels = toy_task(name, 5).labels;
  task.numbers = learned.model.numbers().only(Scope::kTask);
  directory.store().commit(task);
}

TEST_F(Peft, WhatIsLearnedHereGivesTheSameLogitsThere) {
  struct Case {
    std::string base, names, name;
    std::vector<std::string> plugs;
    std::string model = base;  // the directory; `base` is where PEFT finds the network
  };
  const std::vector<Case> cases = {
      {"vit", "transformers", "qkv", {"lora:rank=3,alpha=5"}},
      {"vit", "transformers", "melo", {"melo"}},
      {"vit", "transformers", "all", {"lora:rslora=true,targets=q+v+proj+fc1+fc2+patch_embed"}},
      {"vit", "transformers", "two", {"lora:targets=qkv+v", "melo:rank=2,alpha=3"}},
      {"dinov2", "transformers", "all", {"lora:rank=2,alpha=3,targets=all"}},
      {"dinov2",
       "transformers",
       "padded",
       {"lora:targets=q+proj"},
       "token"},  // a classifier with zeros for the average
      {"timm", "timm", "all", {"lora:rslora=true,targets=all"}},
      {"timm", "timm", "melo", {"melo"}},
      {"timm", "timm", "two", {"lora:rslora=true,targets=qkv+k", "melo:rank=2,alpha=3"}},
  };
  for (const Case& c : cases) {
    const ModelDirectory directory = open(c.model);
    learn_toy(directory, c.name, c.plugs);
    const nlohmann::json report =
        export_peft_folder(directory, c.name, *shared_ / c.base / "to_peft" / c.name, c.names, "some/base", false);
    EXPECT_EQ(report["base_model"], "some/base");
    EXPECT_TRUE(report["notes"].empty());
  }
  ASSERT_EQ(run_cases("load", shared_->path()), "");
  for (const Case& c : cases) {
    SCOPED_TRACE(c.base + " " + c.name);
    const ModelDirectory directory = open(c.model);
    const at::Tensor ours = logits_of(directory, c.name, io(c.base, "images"));
    const at::Tensor theirs =
        read_tensor_file(*shared_ / c.base / "to_peft" / (c.name + ".logits.safetensors")).tensors.at("logits");
    EXPECT_LE(relative(theirs, ours), 1e-4);
    // Once more without the adapter: does it matter?
    TaskRecord bare = directory.record(c.name);
    const Numbers learned = bare.numbers;
    for (const auto& [plug, scopes] : learned.plugs())
      for (const auto& [name, number] : scopes.at(Scope::kTask))
        if (name.starts_with("b@"))
          bare.numbers.at(plug, Scope::kTask).set(name, at::zeros_like(std::get<at::Tensor>(number)));
    bare.name = "bare";
    directory.store().commit(bare);
    EXPECT_GT(relative(logits_of(directory, "bare", io(c.base, "images")), ours), 1e-3) << "it does not";
    // And home again, as another representation of the same.
    import_task_file(directory, *shared_ / c.base / "to_peft" / c.name, "home");
    EXPECT_LE(relative(logits_of(directory, "home", io(c.base, "images")), ours), 1e-5);
    EXPECT_EQ(directory.record("home").labels, directory.record(c.name).labels);
  }
}

TEST_F(Peft, TheOrderOfPatternsCounts) {
  // "q_proj" first meets every q_proj: then the tensors of block 0 have another rank than the config says.
  const fs::path folder = *shared_ / "vit_overlap" / "turned";
  fs::copy(adapter("vit_overlap"), folder);
  nlohmann::ordered_json config = json_of(folder / "adapter_config.json");
  config["rank_pattern"] = nlohmann::ordered_json{{"q_proj", 5}, {"0.attention.q_proj", 3}};
  write_text(folder / "adapter_config.json", config.dump());
  EXPECT_THAT(error_of(Code::kShapeMismatch, [&] { import_task_file(open("vit_overlap"), folder, "turned"); }),
              HasSubstr("rank 5"));
}

TEST_F(Peft, AHeadOverTokenAndAverageNeedsSuchABackbone) {
  EXPECT_THAT(error_of(Code::kShapeMismatch, [&] { import_task_file(open("token"), adapter("dinov2"), "x"); }),
              HasSubstr("--pooling token+average"));
  make_token_directory("both", "token+average");
  import_task_file(open("both"), adapter("dinov2"), "x");
  EXPECT_LE(relative(logits_of(open("both"), "x", io("dinov2", "images")), io("dinov2", "logits")), 1e-4);
}

// ---- Folders that must not come in ---------------------------------------------------------------------------------

/// A toy model with a task of LoRA, and its adapter folder.
class PeftFolder : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    shared_ = new TemporaryFolder;
    write_model_files(*shared_ / "model", toy_vit(), false);
    const ModelDirectory directory = ModelDirectory::open(*shared_ / "model", false);
    learn_toy(directory, "toy", {"lora:rank=3,alpha=6,targets=q+v+fc1"});
    export_peft_folder(directory, "toy", *shared_ / "adapter", "transformers", "toy/base", false);
  }
  static void TearDownTestSuite() { delete shared_; }
  PeftFolder() { fs::copy(*shared_ / "adapter", folder()); }

  fs::path folder() const { return own_ / "adapter"; }
  fs::path config_file() const { return folder() / "adapter_config.json"; }
  fs::path tensor_file() const { return folder() / "adapter_model.safetensors"; }
  ModelDirectory open() const { return ModelDirectory::open(*shared_ / "model", false); }
  nlohmann::json take(const std::string& labels = "") const {
    return import_task_file(open(), folder(), "taken", labels);
  }
  /// The message with which the folder is refused; nothing must have been stored.
  std::string refusal(Code code) const {
    const std::size_t before = open().store().list(true).size();
    std::string text = error_of(code, [&] { take(); });
    EXPECT_EQ(open().store().list(true).size(), before);
    return text;
  }
  void set(const std::string& key, nlohmann::ordered_json value) const {
    nlohmann::ordered_json config =
        nlohmann::ordered_json::parse(read_file(*shared_ / "adapter/adapter_config.json", 1 << 20));
    config[key] = std::move(value);
    write_text(config_file(), config.dump());
  }
  template <class Change>
  void change_tensors(const Change& change) const {
    TensorFile file = read_tensor_file(*shared_ / "adapter/adapter_model.safetensors");
    change(file.tensors);
    write_tensor_file(tensor_file(), file);
  }

  static constexpr const char* kQ = "base_model.model.vit.layers.0.attention.q_proj.lora_A.weight";
  static inline TemporaryFolder* shared_ = nullptr;
  TemporaryFolder own_;
};

TEST_F(PeftFolder, IsTakenWithItsLabelsAndByEitherFile) {
  const nlohmann::json report = take();
  EXPECT_EQ(report["modules"], 6);
  EXPECT_EQ(report["base_model"], "toy/base");
  const ModelDirectory directory = open();
  EXPECT_EQ(directory.record("taken").labels, directory.record("toy").labels);
  EXPECT_TRUE(equal(directory.record("taken").numbers, directory.record("toy").numbers));
  EXPECT_EQ(import_task_file(directory, config_file(), "by_config")["classes"], 5);
  EXPECT_EQ(import_task_file(directory, tensor_file(), "by_tensors")["classes"], 5);
  EXPECT_EQ(import_task_file(directory, folder(), "")["task"], "toy");
  write_text(own_ / "labels.txt", "a\nb\nc\nd\ne\n");
  take((own_ / "labels.txt").string());
  EXPECT_EQ(open().record("taken").labels[4], "e");
  write_text(own_ / "labels.txt", "a\nb\n");
  error_of(Code::kShapeMismatch, [&] { take((own_ / "labels.txt").string()); });
}

TEST_F(PeftFolder, OfAnotherTypeIsRefusedByName) {
  for (const char* type : {"IA3", "LOHA", "LOKR", "ADALORA", "PROMPT_TUNING", "PREFIX_TUNING", "VERA", "OFT", "BOFT",
                           "LN_TUNING", "nonsense"}) {
    set("peft_type", type);
    EXPECT_THAT(refusal(Code::kUnsupported), AllOf(HasSubstr(type), HasSubstr("LORA")));
  }
  set("peft_type", nullptr);
  EXPECT_THAT(refusal(Code::kDataCorruption), HasSubstr("peft_type"));
}

TEST_F(PeftFolder, OfAVariantOfLoraIsRefusedByName) {
  const std::vector<std::pair<std::string, nlohmann::ordered_json>> variants = {
      {"use_dora", true},
      {"use_qalora", true},
      {"lora_bias", true},
      {"fan_in_fan_out", true},
      {"bias", "lora_only"},
      {"bias", "all"},
      {"alora_invocation_tokens", {1, 2}},
      {"layer_replication", {{0, 1}}},
      {"target_parameters", {"x"}},
      {"trainable_token_indices", {3}},
      {"use_bdlora", {{"nblocks", 2}}},
      {"kasa_config", {{"beta", 1}}},
      {"init_lora_weights", "pissa"},
      {"init_lora_weights", "olora"},
      {"init_lora_weights", "loftq"},
  };
  for (const auto& [key, value] : variants) {
    set(key, value);
    EXPECT_THAT(refusal(Code::kUnsupported), HasSubstr(key));
  }
  for (const char* harmless : {"gaussian", "eva", "orthogonal"}) {
    set("init_lora_weights", harmless);
    EXPECT_NO_THROW(take());
  }
}

TEST_F(PeftFolder, WithAbsurdValuesIsRefused) {
  const std::vector<std::pair<std::string, nlohmann::ordered_json>> absurd = {
      {"r", 1'000'000'000},
      {"r", 0},
      {"r", -4},
      {"r", 3.0},
      {"r", "3"},
      {"r", 1ull << 63},
      {"lora_alpha", 0},
      {"lora_alpha", -1},
      {"lora_alpha", 1e30},
      {"lora_alpha", "8"},
      {"use_rslora", "yes"},
      {"rank_pattern", {1, 2}},
      {"rank_pattern", {{"q_proj", 0}}},
      {"alpha_pattern", {{"q_proj", nullptr}}},
      {"target_modules", 7},
      {"target_modules", {1}},
      {"modules_to_save", {{"a", 1}}},
      {"layers_to_transform", "x"},
      {"base_model_name_or_path", 3},
  };
  for (const auto& [key, value] : absurd) {
    SCOPED_TRACE(value.dump());
    set(key, value);
    EXPECT_THAT(refusal(Code::kDataCorruption), HasSubstr(key));
  }
}

TEST_F(PeftFolder, ThatIsNoJsonOrTooMuchOfItIsRefused) {
  const auto refused = [&](const std::string& text, Code code) {
    write_text(config_file(), text);
    return refusal(code);
  };
  refused("", Code::kDataCorruption);
  refused("[]", Code::kDataCorruption);
  refused("{\"peft_type\": \"LORA\", \"r\": 3, \"r\": 4}", Code::kDataCorruption);
  refused(std::string(100'000, '[') + std::string(100'000, ']'), Code::kDataCorruption);
  refused("{\"x\": [" + std::string(500'000, '0').replace(1, 499'999, std::string(499'999, ' ')) + "]}",
          Code::kDataCorruption);
  std::string many = "{\"peft_type\": \"LORA\", \"rank_pattern\": {";
  for (int i = 0; i < 20'000; ++i) many += "\"m" + std::to_string(i) + "\": 3, ";
  refused(many + "\"z\": 1}}", Code::kExhausted);
  refused(std::string((1 << 20) + 1, ' '), Code::kExhausted);
  fs::remove(config_file());
  EXPECT_THAT(refusal(Code::kNotFound), HasSubstr("adapter_config.json"));
}

TEST_F(PeftFolder, WithPatternBombsIsRefusedOrHarmless) {
  const auto start = std::chrono::steady_clock::now();
  const auto bomb = [](const std::string& expression) { return nlohmann::ordered_json{{expression, 3}}; };
  for (const char* harmless : {"(a+)+b", "(.*)*x", "(([a-z]|[a-z.])*)*Q", "(.*.*.*.*.*.*.*)+q"}) {
    set("rank_pattern", bomb(harmless));
    EXPECT_NO_THROW(take()) << harmless;
    set("exclude_modules", harmless);
    EXPECT_NO_THROW(take()) << harmless;
  }
  set("target_modules", "((([a-z0-9._]*)*)*)*Q");
  EXPECT_THAT(refusal(Code::kShapeMismatch), HasSubstr("none of target_modules"));
  set("rank_pattern", bomb("((a{1000}){1000}){1000}"));
  EXPECT_THAT(refusal(Code::kExhausted), HasSubstr("states"));
  set("alpha_pattern", bomb("(a)\\1"));
  EXPECT_THAT(refusal(Code::kUnsupported), HasSubstr("escape"));
  set("rank_pattern", bomb("(?=(a+))x"));
  refusal(Code::kUnsupported);
  set("rank_pattern", bomb("(unclosed"));
  refusal(Code::kDataCorruption);
  nlohmann::ordered_json many = nlohmann::ordered_json::object();
  for (int i = 0; i < 500; ++i) many["(x|y)*[abc]+nothing" + std::to_string(i)] = 3;
  set("rank_pattern", many);
  EXPECT_THAT(refusal(Code::kExhausted), HasSubstr("together"));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

TEST_F(PeftFolder, WhoseRanksContradictEachOtherIsRefused) {
  set("r", 4);
  EXPECT_THAT(refusal(Code::kShapeMismatch), HasSubstr("rank 4"));
  set("rank_pattern", {{"layers.1.mlp.fc1", 2}});
  EXPECT_THAT(refusal(Code::kShapeMismatch), AllOf(HasSubstr("layers.1.mlp.fc1"), HasSubstr("rank 2")));
}

TEST_F(PeftFolder, WithMissingOrForeignTensorsIsRefused) {
  change_tensors([&](NamedTensors& t) { t.erase(kQ); });
  EXPECT_THAT(refusal(Code::kShapeMismatch), AllOf(HasSubstr("missing"), HasSubstr("q_proj.lora_A")));
  change_tensors([&](NamedTensors& t) {
    t.erase(kQ);
    t.erase("base_model.model.vit.layers.0.attention.q_proj.lora_B.weight");
  });
  EXPECT_THAT(refusal(Code::kShapeMismatch), HasSubstr("vit.layers.0.attention.q_proj"));
  change_tensors([&](NamedTensors& t) { t.erase("base_model.model.classifier.weight"); });
  EXPECT_THAT(refusal(Code::kShapeMismatch), HasSubstr("classifier.weight is missing"));
  change_tensors([&](NamedTensors& t) { t.erase("base_model.model.classifier.bias"); });
  EXPECT_THAT(refusal(Code::kShapeMismatch), HasSubstr("classifier.bias is missing"));
  change_tensors([&](NamedTensors& t) { t["base_model.model.vit.layernorm.weight"] = at::zeros({32}); });
  EXPECT_THAT(refusal(Code::kUnsupported), HasSubstr("vit.layernorm.weight is saved whole"));
  change_tensors([&](NamedTensors& t) { t["vit.layernorm.weight"] = at::zeros({32}); });
  EXPECT_THAT(refusal(Code::kUnsupported), HasSubstr("base_model.model."));
  change_tensors([&](NamedTensors& t) {
    t["base_model.model.vit.layers.0.attention.q_proj.lora_magnitude_vector"] = at::zeros({32});
  });
  EXPECT_THAT(refusal(Code::kUnsupported), HasSubstr("lora_magnitude_vector"));
  for (const char* module : {"vit.pooler.dense", "vit.layers.00.attention.q_proj", "bert.layers.0.mlp.fc1"}) {
    change_tensors([&](NamedTensors& t) {
      const std::string name = std::string("base_model.model.") + module;
      t[name + ".lora_A.weight"] = at::zeros({3, 32});
      t[name + ".lora_B.weight"] = at::zeros({32, 3});
    });
    EXPECT_THAT(refusal(Code::kUnsupported), HasSubstr("none that recast adapts")) << module;
  }
  change_tensors([](NamedTensors& t) { t.clear(); });
  EXPECT_THAT(refusal(Code::kUnsupported), HasSubstr("no tensors of LoRA"));
}

TEST_F(PeftFolder, WhoseClassifierIsAdaptedInPartIsRefused) {
  const auto rows = [](NamedTensors& t, std::int64_t r) {
    t["base_model.model.classifier.lora_A.weight"] = at::zeros({r, 32});
    t["base_model.model.classifier.lora_B.weight"] = at::zeros({5, r});
  };
  change_tensors([&](NamedTensors& t) { rows(t, 3); });
  EXPECT_THAT(refusal(Code::kShapeMismatch), HasSubstr("none of target_modules: classifier"));
  const nlohmann::ordered_json targets = {"q_proj", "v_proj", "fc1", "classifier"};
  set("target_modules", targets);
  EXPECT_THAT(refusal(Code::kDataCorruption), HasSubstr("both saved whole and adapted"));
  const auto without_saved = [&](const auto& change) {
    change_tensors([&](NamedTensors& t) {
      t.erase("base_model.model.classifier.weight");
      t.erase("base_model.model.classifier.bias");
      change(t);
    });
    nlohmann::ordered_json config = json_of(config_file());
    config["target_modules"] = targets;
    config["modules_to_save"] = nlohmann::ordered_json::array();
    write_text(config_file(), config.dump());
  };
  without_saved([](NamedTensors&) {});
  EXPECT_THAT(refusal(Code::kShapeMismatch), HasSubstr("1 modules without tensors: classifier"));
  without_saved([&](NamedTensors& t) { rows(t, 3); });
  EXPECT_THAT(refusal(Code::kNotFound), HasSubstr("no task 'pretrained'"));
}

TEST_F(PeftFolder, OfAnotherBaseIsRefusedNamingBoth) {
  const auto without_fingerprint = [&](const auto& change) {
    TensorFile file = read_tensor_file(*shared_ / "adapter/adapter_model.safetensors");
    file.metadata.erase("recast");
    change(file.tensors);
    write_tensor_file(tensor_file(), file);
  };
  without_fingerprint([&](NamedTensors& t) { t[kQ] = at::zeros({3, 768}); });
  EXPECT_THAT(refusal(Code::kShapeMismatch),
              AllOf(HasSubstr("toy/base"), HasSubstr("768"), HasSubstr("toy_vit"), HasSubstr("32")));
  without_fingerprint([&](NamedTensors& t) {
    t["base_model.model.vit.layers.1.mlp.fc1.lora_B.weight"] = at::zeros({3072, 3});
  });
  EXPECT_THAT(refusal(Code::kShapeMismatch), AllOf(HasSubstr("toy/base"), HasSubstr("3072"), HasSubstr("64")));
  without_fingerprint([&](NamedTensors& t) {
    t["base_model.model.vit.layers.11.mlp.fc1.lora_A.weight"] = at::zeros({3, 32});
    t["base_model.model.vit.layers.11.mlp.fc1.lora_B.weight"] = at::zeros({64, 3});
  });
  EXPECT_THAT(refusal(Code::kShapeMismatch), AllOf(HasSubstr("block 11"), HasSubstr("toy_vit has 2 blocks")));
  without_fingerprint([&](NamedTensors& t) { t["base_model.model.classifier.weight"] = at::zeros({5, 768}); });
  EXPECT_THAT(refusal(Code::kShapeMismatch), AllOf(HasSubstr("768"), HasSubstr("toy_vit gives 32")));
  without_fingerprint([&](NamedTensors&) {});
  EXPECT_NO_THROW(take());
  EXPECT_EQ(open().record("taken").labels[0], "class_0") << "labels went with the header";

  write_model_files(own_ / "stranger", toy_vit(/*seed=*/2), false);
  change_tensors([](NamedTensors&) {});
  const ModelDirectory stranger = ModelDirectory::open(own_ / "stranger", false);
  EXPECT_THAT(error_of(Code::kShapeMismatch, [&] { import_task_file(stranger, folder(), "x"); }),
              AllOf(HasSubstr(open().fingerprint()), HasSubstr(stranger.fingerprint())));
}

TEST_F(PeftFolder, WithDamagedTensorsIsRefused) {
  for (const double bad : {std::nan(""), static_cast<double>(INFINITY)}) {
    change_tensors([&](NamedTensors& t) { t[kQ] = at::full({3, 32}, bad); });
    EXPECT_THAT(refusal(Code::kDataCorruption), HasSubstr("q_proj"));
  }
  change_tensors([&](NamedTensors& t) { t[kQ] = at::zeros({3, 32}, at::kInt); });
  EXPECT_THAT(refusal(Code::kUnsupported), HasSubstr("Int"));
  for (const std::vector<std::int64_t>& shape :
       {std::vector<std::int64_t>{}, {0}, {96}, {3, 0}, {0, 32}, {3, 32, 1}, {32, 3}}) {
    change_tensors([&](NamedTensors& t) { t[kQ] = at::zeros(shape); });
    refusal(Code::kShapeMismatch);
  }
  const std::string whole = read_file(*shared_ / "adapter/adapter_model.safetensors", 1 << 20);
  write_text(tensor_file(), whole.substr(0, whole.size() - 7));
  refusal(Code::kDataCorruption);
  write_text(tensor_file(), std::string("\xff\xff\xff\xff\xff\xff\xff\x7f", 8) + whole.substr(8));
  refusal(Code::kDataCorruption);
  fs::remove(tensor_file());
  write_text(folder() / "adapter_model.bin", "a pickle");
  EXPECT_THAT(refusal(Code::kNotFound), HasSubstr("safe_serialization"));
}

TEST_F(PeftFolder, HalfPrecisionAndUnknownFieldsAreTaken) {
  for (const at::ScalarType type : {at::kHalf, at::kBFloat16, at::kDouble}) {
    change_tensors([&](NamedTensors& t) {
      for (auto& [name, tensor] : t) tensor = tensor.to(type);
    });
    take();
    EXPECT_EQ(open().record("taken").numbers.at("lora", Scope::kTask).tensor("a@blocks.0.attn.qkv#q").scalar_type(),
              at::kFloat);
  }
  set("a_field_of_tomorrow", {{"x", 1}});
  EXPECT_EQ(take()["ignored"], nlohmann::json{"a_field_of_tomorrow"});
}

TEST_F(PeftFolder, TheWrapperOfSavedModulesMayBeInTheNames) {
  change_tensors([](NamedTensors& t) {
    for (const char* end : {"weight", "bias"}) {
      auto moved = t.extract(std::string("base_model.model.classifier.") + end);
      moved.key() = std::string("base_model.model.classifier.modules_to_save.default.") + end;
      t.insert(std::move(moved));
    }
  });
  take();
  EXPECT_TRUE(equal(open().record("taken").numbers, open().record("toy").numbers));
}

// ---- What does not go out ------------------------------------------------------------------------------------------

TEST(PeftExport, RefusesWhatPeftHasNoWordForByName) {
  const TemporaryFolder folder;
  write_toy_model(folder / "model");  // mimicked
  const ModelDirectory directory = ModelDirectory::open(folder / "model", false);
  const auto refusal = [&](const std::string& task, const std::string& names, Code code) {
    const std::string text =
        error_of(code, [&] { export_peft_folder(directory, task, folder / "out", names, "", false); });
    EXPECT_FALSE(fs::exists(folder / "out")) << text;
    return text;
  };
  learn_toy(directory, "both", {"recast", "lora"});
  EXPECT_THAT(refusal("both", "", Code::kUnsupported), HasSubstr("'recast'"));
  learn_toy(directory, "head", {"linear-probe"});
  EXPECT_THAT(refusal("head", "", Code::kUnsupported), HasSubstr("needs LoRA"));
  learn_toy(directory, "tuned", {"finetune:scope=task"});
  EXPECT_THAT(refusal("tuned", "", Code::kUnsupported), HasSubstr("'finetune'"));
  learn_toy(directory, "lora", {"lora:targets=fc1"});
  EXPECT_THAT(refusal("lora", "torchvision", Code::kUnsupported), HasSubstr("transformers4"));
  EXPECT_THAT(refusal("lor", "", Code::kNotFound), HasSubstr("did you mean 'lora'"));

  export_peft_folder(directory, "lora", folder / "out", "", "", false);
  const auto again = [&](bool force) { export_peft_folder(directory, "lora", folder / "out", "", "", force); };
  EXPECT_THAT(error_of(Code::kAlreadyExists, [&] { again(false); }), HasSubstr("--force"));
  EXPECT_NO_THROW(again(true));
  EXPECT_THAT(read_file(folder / "out" / "README.md", 1 << 20), HasSubstr("base_model: \"toy_vit\""));
  write_text(folder / "diary" / "monday.txt", "rain");
  EXPECT_THAT(
      error_of(Code::kAlreadyExists, [&] { export_peft_folder(directory, "lora", folder / "diary", "", "", true); }),
      HasSubstr("holds no adapter"));
}

TEST(PeftExport, SaysWhereTheBackboneWasRebuiltFromFewerTemplates) {
  const TemporaryFolder folder;
  MimicryOptions options;
  options.groups = 1;
  options.templates = 1;
  write_model_files(folder / "model", mimic(toy_vit(), options).files, false);
  const ModelDirectory directory = ModelDirectory::open(folder / "model", false);
  learn_toy(directory, "lora", {"lora"});
  const nlohmann::json report = export_peft_folder(directory, "lora", folder / "out", "", "", false);
  ASSERT_EQ(report["notes"].size(), 1u);
  EXPECT_THAT(report["notes"][0].get<std::string>(), HasSubstr("fewer templates"));
}

}  // namespace
}  // namespace recast
