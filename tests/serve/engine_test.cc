// The engine without a transport: what it answers, whatever else waits and whatever changes meanwhile.
#include "recast/serve/engine.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "format/expect_error.h"
#include "model/toy_cnn.h"
#include "recast/run/mimic_directory.h"
#include "recast/run/predict_images.h"
#include "serve/served_tasks.h"

namespace recast {
namespace {
namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// Kinds of tasks by the plug-ins that make them.
const std::vector<std::pair<std::string, std::vector<std::string>>> kKinds = {
    {"head", {"linear-probe"}},
    {"slot", {"recast"}},
    {"block", {"recast:grain=block,block=8"}},
    {"lora", {"lora:rank=2,targets=qkv"}},
    {"piggyback", {"piggyback"}},
    {"adaptformer", {"adaptformer"}},
    {"norms", {"norm-tuning"}},
    {"both", {"recast", "adaptformer"}},
};

class Serving : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    shared_ = new TemporaryFolder;
    write_toy_model(*shared_ / "model");
    write_toy_images(*shared_ / "data", {"blue", "green", "red"}, 12);
    for (const auto& [name, plugs] : kKinds)
      learned_[name] = learned_record(*shared_ / "model", *shared_ / "data", name, plugs);
  }
  static void TearDownTestSuite() { delete shared_; }

  Serving() { fs::copy(*shared_ / "model", model(), fs::copy_options::recursive); }
  fs::path model() const { return own_ / "model"; }
  EngineOptions options(Mixing mixing = Mixing::kGrouped) const {
    EngineOptions options;
    options.directories = {model()};
    options.mixing = mixing;
    options.workers = 2;
    return options;
  }
  static std::int64_t commit(const fs::path& model, const TaskRecord& task) {
    return ModelDirectory::open(model, false).store().commit(task);
  }

  static inline TemporaryFolder* shared_ = nullptr;
  static inline std::map<std::string, TaskRecord> learned_;
  TemporaryFolder own_;
};

TEST_F(Serving, AnswersAsPredictDoes) {
  const auto engine = make_engine(options(), nullptr);
  const fs::path file = *shared_ / "data/red/3.png";
  for (const auto& [kind, plugs] : kKinds) {
    PredictRequest ask;
    ask.task = kind;
    ask.images = {file};
    const nlohmann::json expected = predict_images(ModelDirectory::open(model(), true), ask)["predictions"][0];
    const InferenceResponse got = send(*engine, request_for(kind, {read_file(file, 1 << 20)})).get();
    EXPECT_THAT(texts(got, "label"), ElementsAre(expected["label"].get<std::string>()));
    const auto logits = at::tensor(expected["logits"].get<std::vector<float>>());
    EXPECT_TRUE(at::allclose(floats(got, "logits")[0], logits, 1e-5, 1e-5)) << kind;
    EXPECT_EQ(got.version, "1");
  }
}

/// Rows of all kinds with heads of 2 to 1,000 classes.
class MixedBatch : public Serving {
 protected:
  MixedBatch() {
    const ModelDirectory directory = ModelDirectory::open(model(), false);
    std::int64_t classes = 2;
    for (const auto& [kind, plugs] : kKinds)
      for (const char* which : {"a", "b"}) {
        tasks_.push_back(kind + "-" + which);
        directory.store().commit(varied(learned_.at(kind), tasks_.back(), classes, tasks_.size()));
        classes = std::min<std::int64_t>(1000, classes * 2 - 1);
      }
  }
  /// The logits of each row of a batch, its own classes only, and what the same row gives alone.
  void compare(Service& engine, std::size_t rows,
               const std::function<void(const at::Tensor&, const at::Tensor&, const std::string&)>& check) {
    std::vector<std::string> tasks, images;
    for (std::size_t row = 0; row < rows; ++row) {
      tasks.push_back(tasks_[(row * 7 + rows) % tasks_.size()]);
      images.push_back(image_file(row));
    }
    const InferenceResponse together = send(engine, mixed_request(tasks, images)).get();
    const auto classes = integers(together, "num_classes");
    const at::Tensor logits = floats(together, "logits");
    for (std::size_t row = 0; row < rows; ++row) {
      const InferenceResponse alone = send(engine, request_for(tasks[row], {images[row]})).get();
      const auto at = static_cast<std::int64_t>(row);
      const at::Tensor single = floats(alone, "logits")[0];
      ASSERT_EQ(single.size(0), classes[row]);
      check(logits[at].narrow(0, 0, classes[row]), single, tasks[row]);
      EXPECT_TRUE(at::equal(logits[at].slice(0, classes[row]),
                            at::full({logits.size(1) - classes[row]}, -3.4028234663852886e38)));
      EXPECT_EQ(floats(together, "probabilities")[at].slice(0, classes[row]).sum().item<float>(), 0);
      EXPECT_EQ(texts(together, "label")[row], texts(alone, "label")[0]);
    }
  }
  std::vector<std::string> tasks_;
};

TEST_F(MixedBatch, GroupedRowsHaveTheBitsOfTheRowAlone) {
  for (const int workers : {1, 2, 3}) {
    EngineOptions asked = options();
    asked.workers = workers;
    asked.max_batch = 32;
    const auto engine = make_engine(asked, nullptr);
    for (const std::size_t rows : {1, 2, 7, 32})
      compare(*engine, rows, [](const at::Tensor& row, const at::Tensor& alone, const std::string& task) {
        EXPECT_TRUE(at::equal(row, alone)) << task;
      });
  }
}

TEST_F(MixedBatch, TemplateRowsAgreeWithTheGroupedWay) {
  EngineOptions asked = options(Mixing::kTemplates);
  asked.max_batch = 32;
  const auto templates = make_engine(asked, nullptr), grouped = make_engine(options(), nullptr);
  for (const std::size_t rows : {1, 2, 7, 32}) {
    compare(*templates, rows, [](const at::Tensor& row, const at::Tensor& alone, const std::string& task) {
      EXPECT_LE((row - alone).abs().max().item<double>(), 1e-5 * alone.abs().max().item<double>()) << task;
    });
  }
  for (const std::string& task : tasks_) {
    const at::Tensor one = floats(send(*templates, request_for(task, {image_file(9)})).get(), "logits");
    const at::Tensor other = floats(send(*grouped, request_for(task, {image_file(9)})).get(), "logits");
    EXPECT_LE((one - other).abs().max().item<double>(), 1e-5 * other.abs().max().item<double>()) << task;
  }
}

TEST_F(MixedBatch, AnswersWhateverTheCostModelChooses) {
  EngineOptions asked = options(Mixing::kAuto);
  asked.weight_bytes = 300'000;  // weights of a few tasks at a time
  asked.task_bytes = 200'000;    // and of a few tasks themselves
  const auto engine = make_engine(asked, nullptr);
  for (int round = 0; round < 6; ++round)
    compare(*engine, 7, [](const at::Tensor& row, const at::Tensor& alone, const std::string& task) {
      EXPECT_LE((row - alone).abs().max().item<double>(), 1e-5 * alone.abs().max().item<double>()) << task;
    });
}

TEST_F(Serving, ServesConvolutionalNetworksBothWays) {
  write_model_files(own_ / "cnn-base", toy_cnn(), false);
  MimicRequest mimicry;
  mimicry.directory = own_ / "cnn-base";
  mimicry.out = own_ / "cnn";
  mimic_directory(mimicry);
  const TaskRecord learned = learned_record(own_ / "cnn", *shared_ / "data", "colours", {"recast"});
  commit(own_ / "cnn", varied(learned, "moved", 5, 3));
  EngineOptions asked = options(Mixing::kTemplates);
  asked.directories = {own_ / "cnn", model()};
  const auto templates = make_engine(asked, nullptr);
  asked.mixing = Mixing::kGrouped;
  const auto grouped = make_engine(asked, nullptr);
  const InferenceRequest ask =
      mixed_request({"moved", "cnn@colours", "model@slot"}, {image_file(1), image_file(2), image_file(3)});
  const at::Tensor one = floats(send(*templates, ask).get(), "logits"),
                   other = floats(send(*grouped, ask).get(), "logits");
  EXPECT_LE((one - other).abs().max().item<double>(), 1e-5 * other.clamp_min(-1e30).abs().max().item<double>());
}

TEST_F(Serving, TakesPixelsAndGivesFeaturesTopAndVersion) {
  const auto engine = make_engine(options(), nullptr);
  InferenceRequest ask;
  ask.model = "slot";
  ask.id = "42";
  const at::Tensor pixels = Key(1).normal({2, 3, 16, 16});
  ask.inputs.push_back({"image",
                        "FP32",
                        {2, 3, 16, 16},
                        std::string(static_cast<const char*>(pixels.const_data_ptr()), pixels.nbytes())});
  for (const char* name : {"features", "version", "top_label", "top_probability", "probabilities"})
    ask.outputs.push_back({name});
  ask.parameters["top_k"] = 2;
  const InferenceResponse got = send(*engine, ask).get();
  EXPECT_EQ(got.id, "42");
  const LoadedTask task = ModelDirectory::open(model(), true).load("slot");
  const at::NoGradGuard no_grad;
  EXPECT_TRUE(at::allclose(floats(got, "features"), task.model.features({{{"input", pixels}}, 2}, {}), 1e-4, 1e-5));
  EXPECT_THAT(integers(got, "version"), ElementsAre(1, 1));
  EXPECT_EQ(output(got, "top_label").shape, (std::vector<std::int64_t>{2, 2}));
  EXPECT_TRUE(at::equal(floats(got, "top_probability").select(1, 0), std::get<0>(floats(got, "probabilities").max(1))));
}

TEST_F(Serving, WritesClassificationAsText) {
  const auto engine = make_engine(options(), nullptr);
  InferenceRequest ask = request_for("slot", {image_file(1)});
  ask.outputs.push_back({"probabilities", false, {{"classification", 2}}});
  const auto best = texts(send(*engine, ask).get(), "probabilities");
  ASSERT_EQ(best.size(), 2u);
  EXPECT_THAT(best[0], ::testing::MatchesRegex("0\\.[0-9]{6}:[012]:(blue|green|red)"));
}

TEST_F(Serving, RefusesWhatItCannotMeanWithTheFieldNamed) {
  const auto engine = make_engine(options(), nullptr);
  const auto refusal = [&](Code code, InferenceRequest ask) {
    return error_of(code, [&] { send(*engine, std::move(ask)).get(); });
  };
  EXPECT_THAT(refusal(Code::kNotFound, request_for("slit", {image_file(1)})), HasSubstr("did you mean 'slot'?"));
  EXPECT_THAT(refusal(Code::kNotFound, request_for("slot:7", {image_file(1)})), HasSubstr("version 7"));
  EXPECT_THAT(refusal(Code::kNotFound, mixed_request({"slot", "nobody"}, {image_file(1), image_file(2)})),
              HasSubstr("task of row 1"));
  EXPECT_THAT(refusal(Code::kInvalidArgument, mixed_request({"slot"}, {image_file(1), image_file(2)})),
              HasSubstr("1 tasks for 2 images"));
  EXPECT_THAT(refusal(Code::kInvalidArgument, request_for("slot", {image_file(1), image_file(2).substr(0, 60)})),
              HasSubstr("row 1"));
  EXPECT_THAT(refusal(Code::kInvalidArgument, request_for("recast", {image_file(1)})), HasSubstr("'task'"));
  EXPECT_THAT(refusal(Code::kInvalidArgument, request_for("slot", {})), HasSubstr("no row"));
  InferenceRequest ask = request_for("slot", {image_file(1)});
  ask.inputs[0].name = "images";
  EXPECT_THAT(refusal(Code::kInvalidArgument, ask), HasSubstr("did you mean 'image'?"));
  ask = request_for("slot", {image_file(1)});
  ask.outputs.push_back({"logit"});
  EXPECT_THAT(refusal(Code::kInvalidArgument, ask), HasSubstr("did you mean 'logits'?"));
  ask = request_for("slot", {image_file(1)});
  ask.parameters["top_k"] = 0;
  EXPECT_THAT(refusal(Code::kInvalidArgument, ask), HasSubstr("'top_k' is 0"));
  ask = request_for("slot", std::vector<std::string>(1025, "x"));
  EXPECT_THAT(refusal(Code::kExhausted, ask), HasSubstr("1025 rows"));
  ask.inputs[0] = {"image", "FP32", {1, 3, 17, 16}, std::string(3 * 17 * 16 * 4, '\0')};
  EXPECT_THAT(refusal(Code::kShapeMismatch, ask), HasSubstr("multiples of the patch size"));
}

TEST_F(Serving, ABadRowFailsItsRequestAlone) {
  EngineOptions asked = options();
  asked.workers = 1;
  asked.max_batch = 32;
  asked.max_delay = std::chrono::milliseconds(20);
  const auto engine = make_engine(asked, nullptr);
  auto good = send(*engine, request_for("slot", {image_file(1)}));
  auto bad = send(*engine, request_for("slot", {image_file(2), "no image"}));
  auto cut = send(*engine, request_for("slot", {image_file(2), image_file(2).substr(0, 60)}));
  auto later = send(*engine, request_for("head", {image_file(3)}));
  EXPECT_NO_THROW(good.get());
  EXPECT_NO_THROW(later.get());
  EXPECT_THAT(error_of(Code::kUnsupported, [&] { bad.get(); }), HasSubstr("row 1"));
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { cut.get(); }), HasSubstr("row 1"));
}

TEST_F(Serving, FollowsTheStoreFromTheNextRequestOn) {
  const auto engine = make_engine(options(), nullptr);
  const auto version = [&](const std::string& name) {
    return send(*engine, request_for(name, {image_file(1)})).get().version;
  };
  const auto logits = [&] { return floats(send(*engine, request_for("slot", {image_file(1)})).get(), "logits"); };
  EXPECT_EQ(version("slot"), "1");
  const at::Tensor first = logits();
  EXPECT_EQ(commit(model(), varied(learned_.at("slot"), "slot", 4, 8)), 2);
  EXPECT_EQ(version("slot"), "2");
  EXPECT_EQ(version("slot:1"), "1");
  EXPECT_EQ(logits().size(1), 4);
  {
    const ModelDirectory directory = ModelDirectory::open(model(), false);
    directory.store().rollback("slot", 1);
    EXPECT_EQ(version("slot"), "3");
    EXPECT_TRUE(at::equal(logits(), first));
    directory.store().tag("slot", 2, "stable");
    EXPECT_EQ(version("slot:stable"), "2");
    directory.store().tag("slot", 3, "stable", /*move=*/true);
    EXPECT_EQ(version("slot:stable"), "3");
    directory.store().remove("slot");
  }
  EXPECT_THAT(error_of(Code::kNotFound, [&] { version("slot"); }), HasSubstr("no model 'slot'"));
  {
    const ModelDirectory directory = ModelDirectory::open(model(), false);
    directory.store().purge("slot");
    EXPECT_EQ(directory.store().commit(varied(learned_.at("slot"), "slot", 4, 9)), 1);
  }
  EXPECT_EQ(version("slot"), "1");  // the number of before, another task
  EXPECT_FALSE(logits().size(1) == first.size(1) && at::equal(logits(), first));
}

/// P9: whatever happens to a task, each answer is one of a committed version, as its version says.
TEST_F(Serving, EachAnswerIsThatOfOneCommittedVersion) {
  constexpr int kVersions = 400;
  const auto engine = make_engine(options(), nullptr);
  std::map<std::int64_t, at::Tensor> answers;  // by version: the logits of image 1
  std::mutex mutex;
  const std::string image = image_file(1);
  answers[1] = floats(send(*engine, request_for("slot", {image})).get(), "logits");
  std::atomic<bool> done = false;
  std::vector<std::pair<std::int64_t, at::Tensor>> seen;
  std::vector<std::thread> clients;
  for (int client = 0; client < 2; ++client)
    clients.emplace_back([&] {
      while (!done) {
        InferenceRequest ask = mixed_request({"slot", "head", "slot"}, {image, image, image});
        for (const char* name : {"version", "logits", "num_classes"}) ask.outputs.push_back({name});
        const InferenceResponse got = send(*engine, std::move(ask)).get();
        const auto versions = integers(got, "version"), classes = integers(got, "num_classes");
        const std::lock_guard lock(mutex);
        EXPECT_EQ(versions[0], versions[2]);
        for (const std::int64_t row : {0, 2})
          seen.emplace_back(versions[static_cast<std::size_t>(row)],
                            floats(got, "logits")[row].narrow(0, 0, classes[static_cast<std::size_t>(row)]).clone());
      }
    });
  {
    const ModelDirectory directory = ModelDirectory::open(model(), false);
    for (int i = 0; i < kVersions; ++i)
      directory.store().commit(varied(learned_.at("slot"), "slot", 2 + i % 5, static_cast<std::uint64_t>(i % 10)));
  }
  done = true;
  for (std::thread& client : clients) client.join();
  ASSERT_GT(seen.size(), 10u);
  for (const auto& [version, logits] : seen) {
    at::Tensor& expected = answers[version];
    if (!expected.defined())
      expected = floats(send(*engine, request_for("slot:" + std::to_string(version), {image})).get(), "logits");
    ASSERT_TRUE(at::equal(logits.flatten(), expected.flatten())) << "version " << version;
  }
}

TEST_F(Serving, RefusesWhatTheQueueCannotHoldAndDropsWhatIsLate) {
  EngineOptions asked = options();
  asked.workers = 1;
  asked.max_rows = 8;
  asked.queue_rows = 8;
  asked.max_delay = std::chrono::seconds(1);  // so long the first rows wait for others
  asked.max_batch = 32;
  const auto engine = make_engine(asked, nullptr);
  const std::vector<std::string> images(8, image_file(1));
  auto first = send(*engine, request_for("slot", images));
  EXPECT_THAT(error_of(Code::kUnavailable, [&] { send(*engine, request_for("slot", images)).get(); }),
              HasSubstr("try again later"));
  EXPECT_NO_THROW(first.get());
  InferenceRequest late = request_for("slot", images);
  late.parameters["timeout"] = 1;
  EXPECT_THAT(error_of(Code::kUnavailable, [&] { send(*engine, late).get(); }), HasSubstr("before its turn"));
  CallContext gone;
  gone.cancelled = std::make_shared<std::atomic<bool>>(true);
  EXPECT_THAT(error_of(Code::kCancelled, [&] { send(*engine, request_for("slot", images), gone).get(); }),
              HasSubstr("gone"));
}

TEST_F(Serving, DrainsBeforeItEnds) {
  const auto engine = make_engine(options(), nullptr);
  auto before = send(*engine, request_for("slot", std::vector<std::string>(8, image_file(1))));
  EXPECT_TRUE(engine->drain(std::chrono::steady_clock::now() + std::chrono::seconds(30)));
  EXPECT_FALSE(engine->ready());
  EXPECT_TRUE(engine->live());
  ASSERT_EQ(before.wait_for(std::chrono::seconds(0)), std::future_status::ready);
  EXPECT_THAT(error_of(Code::kUnavailable, [&] { send(*engine, request_for("slot", {image_file(1)})).get(); }),
              HasSubstr("shutting down"));
}

TEST_F(Serving, UnloadedTasksAnswerOnceTheyAreLoaded) {
  const auto engine = make_engine(options(), nullptr);
  engine->unload("slot");
  EXPECT_THAT(error_of(Code::kNotFound, [&] { send(*engine, request_for("slot", {image_file(1)})).get(); }),
              HasSubstr("'slot'"));
  EXPECT_NO_THROW(send(*engine, request_for("head", {image_file(1)})).get());
  const nlohmann::json index = engine->repository_index(false);
  const auto entry = std::ranges::find_if(index, [](const nlohmann::json& e) { return e["name"] == "slot"; });
  ASSERT_NE(entry, index.end());
  EXPECT_EQ((*entry)["state"], "UNAVAILABLE");
  EXPECT_EQ(engine->repository_index(true).size(), index.size() - 1);
  engine->load("slot");
  EXPECT_NO_THROW(send(*engine, request_for("slot", {image_file(1)})).get());
  EXPECT_THAT(error_of(Code::kNotFound, [&] { engine->load("slit"); }), HasSubstr("did you mean 'slot'?"));
}

TEST_F(Serving, DescribesModelsAndCountsWhatTheyDid) {
  const auto engine = make_engine(options(), nullptr);
  const nlohmann::json slot = engine->model_metadata("slot", "");
  EXPECT_EQ(slot["versions"], nlohmann::json({"1"}));
  EXPECT_EQ(slot["outputs"][0], (nlohmann::json{{"name", "logits"}, {"datatype", "FP32"}, {"shape", {-1, 3}}}));
  EXPECT_EQ(engine->model_metadata("recast", "")["inputs"].size(), 2u);
  EXPECT_TRUE(engine->model_ready("slot", "1"));
  EXPECT_THAT(error_of(Code::kNotFound, [&] { engine->model_ready("slot", "9"); }), HasSubstr("version 9"));
  send(*engine, request_for("slot", {image_file(1), image_file(2)})).get();
  const nlohmann::json stats = engine->statistics("slot", "")["model_stats"];
  ASSERT_EQ(stats.size(), 1u);
  EXPECT_EQ(stats[0]["inference_count"], 2);
  EXPECT_EQ(stats[0]["inference_stats"]["success"]["count"], 1);
  EXPECT_GT(stats[0]["inference_stats"]["compute_infer"]["ns"], 0);
}

TEST_F(Serving, ATokenSeesItsOwnTasksOnly) {
  const auto engine = make_engine(options(), nullptr);
  CallContext context;
  context.may_use = [](std::string_view model) { return model == "model@head"; };
  EXPECT_NO_THROW(send(*engine, request_for("head", {image_file(1)}), context).get());
  const std::string refused =
      error_of(Code::kNotFound, [&] { send(*engine, request_for("slot", {image_file(1)}), context).get(); });
  EXPECT_THAT(refused, ::testing::Not(HasSubstr("did you mean")));
  EXPECT_THAT(error_of(Code::kNotFound,
                       [&] {
                         send(*engine, mixed_request({"head", "slot"}, {image_file(1), image_file(1)}), context).get();
                       }),
              HasSubstr("row 1"));
}

}  // namespace
}  // namespace recast
