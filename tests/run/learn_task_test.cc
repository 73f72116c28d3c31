#include "recast/run/learn_task.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "format/expect_error.h"
#include "format/file_size_limit.h"
#include "recast/run/evaluate_task.h"
#include "recast/run/machine.h"
#include "recast/run/model_directory.h"
#include "recast/run/predict_images.h"
#include "recast/run/settings.h"
#include "run/toy_model.h"

namespace recast {
namespace {
namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

class LearnTask : public ::testing::Test {
 protected:
  LearnTask() {
    write_toy_model(folder_ / "model");
    write_toy_images(data(), {"blue", "green", "red"}, 12);
  }
  fs::path model() const { return folder_ / "model"; }
  fs::path data() const { return folder_ / "data"; }

  LearnRequest request(const std::string& task = "colours") const {
    LearnRequest request;
    request.directory = model();
    request.data = data();
    request.task = task;
    request.epochs = 2;
    request.batch_size = 8;
    return request;
  }
  nlohmann::json evaluate(const std::string& task) const {
    EvaluateRequest request;
    request.task = task;
    return evaluate_tasks(ModelDirectory::open(model(), true), request);
  }
  nlohmann::json logits(const std::string& task) const {
    PredictRequest request;
    request.task = task;
    for (const char* name : {"blue/0.png", "green/1.png", "red/2.png"}) request.images.push_back(data() / name);
    return predict_images(ModelDirectory::open(model(), true), request)["predictions"];
  }
  /// Fails, and leaves the disk as it was.
  std::string refused(Code code, const LearnRequest& request) const {
    const auto before = paths_below(folder_.path());
    const std::string message = error_of(code, [&] { learn_task(request); });
    EXPECT_EQ(paths_below(folder_.path()), before);
    return message;
  }

  TemporaryFolder folder_;
};

TEST_F(LearnTask, StoresATaskWhoseTestFiguresEvalRepeatsExactly) {
  const nlohmann::json results = learn_task(request()).results;
  EXPECT_EQ(results["version"], 1);
  EXPECT_EQ(results["labels"], nlohmann::json({"blue", "green", "red"}));
  EXPECT_EQ(results["coefficients"], 16);  // 4 slots, n = 2, K = 2
  EXPECT_EQ(results["head_numbers"], 3 * 32 + 3);
  EXPECT_EQ(results["stored_bytes"], 4 * (16 + 3 * 32 + 3));
  EXPECT_EQ(results["shared_bytes"], 0);
  EXPECT_GT(results["test"]["top1"], 0.5);
  const nlohmann::json again = evaluate("colours");
  for (const char* key : {"rows", "top1", "top5", "loss", "per_class"})
    EXPECT_EQ(results["test"][key], again[key]) << key;
  EXPECT_EQ(results["confusion"], again["confusion"]);
}

TEST_F(LearnTask, LeavesARunFolderThatRerunsToTheSameNumbers) {
  const nlohmann::json first = learn_task(request()).results;
  const fs::path run = first["run"].get<std::string>();
  EXPECT_EQ(run, fs::absolute(model() / "runs" / "colours" / "v1").lexically_normal());
  for (const char* file : {"config.yaml", "metrics.csv", "run.log", "results.json"})
    EXPECT_TRUE(fs::exists(run / file));
  EXPECT_EQ(nlohmann::json::parse(read_file(run / "results.json", 1 << 20)), first);
  EXPECT_THAT(read_file(run / "metrics.csv", 1 << 20),
              HasSubstr("epoch,stage,train_loss,eval_loss,eval_top1,lr,skipped_steps\n"));

  LearnRequest again = request("again");
  for (const auto& [key, values] : read_settings(run / "config.yaml")) {
    if (key == "plug") again.plugs = values;
    if (key == "head-lr") again.head_lr = std::stod(values[0]);
  }
  EXPECT_FALSE(again.plugs.empty());
  const nlohmann::json second = learn_task(again).results;
  EXPECT_EQ(second["test"], first["test"]);
  EXPECT_EQ(second["plugs"], first["plugs"]);
  EXPECT_EQ(logits("again"), logits("colours"));
}

class Notes : public Listener {
 public:
  void note(const std::string& text) override { notes.push_back(text); }
  std::vector<std::string> notes;
};

TEST_F(LearnTask, TakesFeaturesThatAnotherRunMadeToTheSameNumbers) {
  Notes first, second, other_images;
  LearnRequest one = request("one"), two = request("two"), fewer = request("fewer");
  one.listener = &first, two.listener = &second, fewer.listener = &other_images;
  fewer.limit_train = 4;
  const nlohmann::json learned = learn_task(one).results, again = learn_task(two).results;
  learn_task(fewer);
  EXPECT_THAT(first.notes, Contains(MatchesRegex("features of 27 train images from (images|disk|memory)")));
  EXPECT_THAT(second.notes, Contains("features of 27 train images from memory"));
  EXPECT_THAT(second.notes, Contains("features of 3 validation images from memory"));
  EXPECT_THAT(other_images.notes, Contains(MatchesRegex("features of 12 train images from (images|disk|memory)")));
  EXPECT_EQ(learned["validation"], again["validation"]);
  EXPECT_EQ(logits("one"), logits("two"));
}

TEST_F(LearnTask, ChangesNeitherBackboneNorAnotherTask) {
  learn_task(request());
  const nlohmann::json before = logits("colours");
  const std::string backbone = sha256_hex_of_file(model() / "backbone.safetensors");
  const std::string bank = sha256_hex_of_file(model() / "bank.safetensors");
  LearnRequest other = request("other");
  other.seed = 7;
  learn_task(other);
  EXPECT_EQ(logits("colours"), before);
  EXPECT_EQ(sha256_hex_of_file(model() / "backbone.safetensors"), backbone);
  EXPECT_EQ(sha256_hex_of_file(model() / "bank.safetensors"), bank);
}

TEST_F(LearnTask, KeepsTheOldVersionAndItsRunFolder) {
  learn_task(request());
  const nlohmann::json before = logits("colours:1");
  LearnRequest next = request();
  next.seed = 8;
  const nlohmann::json results = learn_task(next).results;
  EXPECT_EQ(results["version"], 2);
  EXPECT_TRUE(fs::exists(model() / "runs" / "colours" / "v1" / "results.json"));
  EXPECT_TRUE(fs::exists(model() / "runs" / "colours" / "v2" / "results.json"));
  EXPECT_EQ(logits("colours:1"), before);
}

TEST_F(LearnTask, SharesOneStateAmongTasksThatAreNotIsolated) {
  LearnRequest first = request("first");
  first.plugs = {"finetune"};
  EXPECT_GT(learn_task(first).results["shared_bytes"].get<std::int64_t>(), 4 * 32 * 32);
  LearnRequest second = request("second");
  second.plugs = {"finetune"};
  second.seed = 3;
  learn_task(second);
  const ModelDirectory directory = ModelDirectory::open(model(), true);
  const TaskRecord a = directory.record("first"), b = directory.record("second");
  ASSERT_TRUE(a.follows && b.follows);
  EXPECT_EQ(a.follows->name, "finetune");
  EXPECT_EQ(a.follows, b.follows);
  EXPECT_EQ(b.follows->version, 2);
}

/// Stops the run once some training steps were done.
class StopInTraining final : public Listener {
 public:
  void stage(const std::string& name, std::int64_t) override { training_ = name == "train"; }
  void epoch(const EpochMetrics& metrics) override { stop = stop || (training_ && metrics.stage == "train"); }
  std::atomic<bool> stop = false;

 private:
  bool training_ = false;
};

TEST_F(LearnTask, ResumesAStoppedRunToTheSameBytes) {
  const nlohmann::json whole = learn_task(request("whole")).results;
  StopInTraining stopper;
  LearnRequest stopped = request("stopped");
  stopped.listener = &stopper;
  stopped.stop = &stopper.stop;
  EXPECT_THAT(error_of(Code::kCancelled, [&] { learn_task(stopped); }), HasSubstr("--resume goes on from"));
  EXPECT_FALSE(ModelDirectory::open(model(), true).store().load("stopped"));

  EXPECT_THAT(refused(Code::kAlreadyExists, request("stopped")), HasSubstr("--resume"));
  LearnRequest resumed = request("stopped");
  resumed.resume = true;
  const nlohmann::json results = learn_task(resumed).results;
  EXPECT_EQ(results["test"], whole["test"]);
  EXPECT_EQ(results["validation"], whole["validation"]);
  EXPECT_EQ(logits("stopped")[0]["logits"], logits("whole")[0]["logits"]);
  const LearnReport again = learn_task(resumed);
  EXPECT_TRUE(again.finished_before);
  EXPECT_EQ(again.results["version"], 1);
}

TEST_F(LearnTask, ResumeRefusesOtherSettings) {
  StopInTraining stopper;
  LearnRequest stopped = request();
  stopped.listener = &stopper;
  stopped.stop = &stopper.stop;
  error_of(Code::kCancelled, [&] { learn_task(stopped); });
  LearnRequest other = request();
  other.resume = true;
  other.epochs = 5;
  EXPECT_THAT(refused(Code::kInvalidArgument, other), HasSubstr("epochs '2', now it is '5'"));
}

TEST_F(LearnTask, ResumeWithoutACheckpointStartsAfresh) {
  LearnRequest fresh = request();
  fresh.resume = true;
  EXPECT_EQ(learn_task(fresh).results["version"], 1);
}

TEST_F(LearnTask, ResumesARunThatReplacedAnotherInItsFolder) {
  LearnRequest first = request();
  first.run_folder = folder_ / "run";
  learn_task(first);
  StopInTraining stopper;
  LearnRequest second = first;
  second.seed = 9;
  second.force = true;
  second.listener = &stopper;
  second.stop = &stopper.stop;
  error_of(Code::kCancelled, [&] { learn_task(second); });
  LearnRequest resumed = first;
  resumed.seed = 9;
  resumed.resume = true;
  const LearnReport report = learn_task(resumed);
  EXPECT_FALSE(report.finished_before);
  EXPECT_EQ(report.results["version"], 2);
  EXPECT_EQ(report.results["seed"], 9);
}

/// In the middle of a run, tries to learn in its folder with each of these requests.
class Intruder final : public Listener {
 public:
  explicit Intruder(std::vector<LearnRequest> tries) : tries_(std::move(tries)) {}
  void epoch(const EpochMetrics&) override {
    for (const LearnRequest& request : std::exchange(tries_, {}))
      messages.push_back(error_of(Code::kUnavailable, [&] { learn_task(request); }));
  }
  std::vector<std::string> messages;

 private:
  std::vector<LearnRequest> tries_;
};

TEST_F(LearnTask, TakesAFolderAwayThatItCouldNotFill) {
  {
    const FileSizeLimit full(1);
    EXPECT_THAT(refused(Code::kUnavailable, request()), HasSubstr("v1/id"));
  }
  EXPECT_EQ(learn_task(request()).results["version"], 1) << "without --force";
}

TEST_F(LearnTask, KeepsOthersOutOfTheFolderThatItLearnsIn) {
  LearnRequest first = request(), resumed = request(), forced = request();
  resumed.resume = true;
  forced.force = true;
  Intruder intruder({request(), resumed, forced});
  first.listener = &intruder;
  EXPECT_EQ(learn_task(first).results["version"], 1);
  EXPECT_THAT(intruder.messages, ::testing::SizeIs(3));
  EXPECT_THAT(intruder.messages, ::testing::Each(HasSubstr("another process learns in")));
  resumed.listener = nullptr;
  EXPECT_TRUE(learn_task(resumed).finished_before);
}

TEST_F(LearnTask, ResumeTakesPathsWithASlashAtTheEnd) {
  StopInTraining stopper;
  LearnRequest stopped = request();
  stopped.listener = &stopper;
  stopped.stop = &stopper.stop;
  error_of(Code::kCancelled, [&] { learn_task(stopped); });
  LearnRequest resumed = request();
  resumed.directory = model() / "";
  resumed.data = data() / "";
  resumed.resume = true;
  EXPECT_EQ(learn_task(resumed).results["version"], 1);
}

TEST_F(LearnTask, ResumeRefusesOtherImagesUnderTheSameNames) {
  StopInTraining stopper;
  LearnRequest stopped = request();
  stopped.listener = &stopper;
  stopped.stop = &stopper.stop;
  error_of(Code::kCancelled, [&] { learn_task(stopped); });
  write_toy_images(data(), {"blue", "green", "red"}, 12, 99);
  LearnRequest resumed = request();
  resumed.resume = true;
  EXPECT_THAT(error_of(Code::kShapeMismatch, [&] { learn_task(resumed); }), HasSubstr("another data"));
}

TEST_F(LearnTask, ResumeLeavesAFolderOfOthersAlone) {
  write_text(folder_ / "mine" / "letter.txt", "dear");
  LearnRequest resumed = request();
  resumed.run_folder = folder_ / "mine";
  resumed.resume = true;
  EXPECT_THAT(refused(Code::kAlreadyExists, resumed), HasSubstr("no run folder"));
}

TEST_F(LearnTask, RefusesBadOptionsBeforeAnythingIsWritten) {
  auto changed = [&](auto change) {
    LearnRequest bad = request();
    change(bad);
    return bad;
  };
  using enum Code;
  EXPECT_THAT(refused(kInvalidArgument, changed([](auto& r) { r.plugs = {"recas"}; })),
              HasSubstr("did you mean 'recast'"));
  EXPECT_THAT(refused(kInvalidArgument, changed([](auto& r) { r.plugs = {"recast:grain=slots"}; })),
              HasSubstr("grain"));
  EXPECT_THAT(refused(kInvalidArgument, changed([](auto& r) { r.plugs = {"adamw:beta1=2"}; })), HasSubstr("beta1"));
  EXPECT_THAT(refused(kInvalidArgument, changed([](auto& r) { r.recipe = "fasst"; })),
              HasSubstr("did you mean 'fast'"));
  EXPECT_THAT(refused(kInvalidArgument, changed([](auto& r) { r.task = "../x"; })), HasSubstr("../x"));
  EXPECT_THAT(refused(kInvalidArgument, changed([](auto& r) { r.epochs = -1; })), HasSubstr("--epochs"));
  EXPECT_THAT(refused(kInvalidArgument, changed([](auto& r) { r.batch_size = 0; })), HasSubstr("--batch-size"));
  EXPECT_THAT(refused(kInvalidArgument, changed([](auto& r) { r.lr = 0; })), HasSubstr("--lr"));
  EXPECT_THAT(refused(kInvalidArgument, changed([](auto& r) { r.augmentation = "flip"; })),
              HasSubstr("did you mean 'flips'"));
  EXPECT_THAT(refused(kInvalidArgument, changed([](auto& r) { r.device = "gpu"; })), HasSubstr("cuda"));
  EXPECT_THAT(refused(kShapeMismatch, changed([](auto& r) { r.image_size = 15; })), HasSubstr("15"));
  if (!at::hasCUDA()) {
    EXPECT_THAT(refused(kUnsupported, changed([](auto& r) { r.device = "cuda"; })), HasSubstr("--device cpu"));
  }
}

TEST_F(LearnTask, RefusesBadDataBeforeAnythingIsWritten) {
  auto with_data = [&](const fs::path& path) {
    LearnRequest bad = request();
    bad.data = path;
    return bad;
  };
  using enum Code;
  EXPECT_THAT(refused(kNotFound, with_data(folder_ / "nowhere")), HasSubstr("nowhere"));
  fs::create_directories(folder_ / "empty");
  EXPECT_THAT(refused(kUnsupported, with_data(folder_ / "empty")), HasSubstr("empty"));
  write_toy_images(folder_ / "one", {"only"}, 5);
  EXPECT_THAT(refused(kUnsupported, with_data(folder_ / "one")), HasSubstr("at least two"));
  write_toy_images(folder_ / "hole", {"a", "b"}, 5);
  fs::create_directories(folder_ / "hole" / "c");
  EXPECT_THAT(refused(kUnsupported, with_data(folder_ / "hole")), HasSubstr("c"));
  write_text(folder_ / "columns.csv", "file,label\nx.png,a\n");
  EXPECT_THAT(refused(kUnsupported, with_data(folder_ / "columns.csv")), HasSubstr("path"));
  write_text(folder_ / "missing.csv", "path,label\nx.png,a\n");
  EXPECT_THAT(refused(kNotFound, with_data(folder_ / "missing.csv")), HasSubstr("x.png"));
  write_toy_images(folder_ / "labels" / "train", {"a", "b"}, 5);
  write_toy_images(folder_ / "labels" / "test", {"a", "c"}, 5);
  EXPECT_THAT(refused(kUnsupported, with_data(folder_ / "labels")), HasSubstr("labels differ"));
}

/// Own splits: 6 images a class to learn from, 2 to validate on, 3 to test on.
fs::path write_split_images(const fs::path& folder) {
  write_toy_images(folder / "train", {"a", "b"}, 6, 1);
  write_toy_images(folder / "validation", {"a", "b"}, 2, 2);
  write_toy_images(folder / "test", {"a", "b"}, 3, 3);
  return folder;
}

void cut_in_half(const fs::path& file) {
  const std::string whole = read_file(file, 1 << 20);
  write_text(file, whole.substr(0, whole.size() / 2));
}

TEST_F(LearnTask, FindsATruncatedImageBeforeItLearns) {
  LearnRequest bad = request();
  bad.data = write_split_images(folder_ / "cut");
  for (const char* name : {"train/a/0.png", "train/b/5.png", "validation/a/1.png"}) {
    const std::string whole = read_file(bad.data / name, 1 << 20);
    cut_in_half(bad.data / name);
    EXPECT_THAT(refused(Code::kDataCorruption, bad), HasSubstr(name));
    write_text(bad.data / name, whole);
  }
}

TEST_F(LearnTask, OpensNoTestImageBeforeEverythingIsDecided) {
  LearnRequest with_test = request("with");
  with_test.data = write_split_images(folder_ / "cut");
  const nlohmann::json whole = learn_task(with_test).results;
  const std::string image = read_file(with_test.data / "test" / "b" / "1.png", 1 << 20);
  cut_in_half(with_test.data / "test" / "b" / "1.png");

  LearnRequest without = with_test;
  without.task = "without";
  without.test = false;
  EXPECT_TRUE(learn_task(without).results["test"].is_null());

  LearnRequest late = with_test;
  late.task = "late";
  const std::string message = error_of(Code::kDataCorruption, [&] { learn_task(late); });
  EXPECT_THAT(message, HasSubstr("test/b/1.png"));
  EXPECT_THAT(message, HasSubstr("--resume"));
  EXPECT_FALSE(ModelDirectory::open(model(), true).store().load("late"));

  write_text(with_test.data / "test" / "b" / "1.png", image);
  late.resume = true;
  const nlohmann::json mended = learn_task(late).results;
  EXPECT_EQ(mended["test"], whole["test"]);
  EXPECT_EQ(mended["history"].size(), whole["history"].size());
}

class Warnings final : public Listener {
 public:
  void warning(const std::string& text) override { texts.push_back(text); }
  std::vector<std::string> texts;
};

TEST_F(LearnTask, SkipsBadImagesIfAskedAndCountsThem) {
  LearnRequest skipping = request();
  skipping.data = write_split_images(folder_ / "cut");
  for (const char* name : {"train/a/0.png", "train/b/2.png", "test/b/1.png"}) cut_in_half(skipping.data / name);
  Warnings warnings;
  skipping.listener = &warnings;
  skipping.bad_images = BadImages::kSkip;
  const nlohmann::json results = learn_task(skipping).results;
  EXPECT_EQ(results["bad_images"]["train"]["count"], 2);
  EXPECT_EQ(results["bad_images"]["train"]["first"][0]["image"], "train/a/0.png");
  EXPECT_EQ(results["bad_images"]["validation"]["count"], 0);
  EXPECT_EQ(results["bad_images"]["test"]["count"], 1);
  EXPECT_EQ(results["test"]["rows"], 5);
  EvaluateRequest again;
  again.task = "colours";
  again.bad_images = BadImages::kSkip;
  const nlohmann::json repeated = evaluate_tasks(ModelDirectory::open(model(), true), again);
  EXPECT_EQ(repeated["loss"], results["test"]["loss"]);
  EXPECT_EQ(repeated["bad_images"]["count"], 1);
  ASSERT_EQ(warnings.texts.size(), 2u);  // of train and of test
  EXPECT_THAT(warnings.texts[0], HasSubstr("2 train images cannot be decoded"));
}

TEST_F(LearnTask, WarnsOfTheSameImageInTrainAndTest) {
  LearnRequest leaking = request();
  leaking.data = write_split_images(folder_ / "leak");
  fs::copy_file(leaking.data / "train" / "a" / "3.png", leaking.data / "test" / "a" / "again.png");
  Warnings warnings;
  leaking.listener = &warnings;
  const nlohmann::json results = learn_task(leaking).results;
  EXPECT_EQ(results["duplicates"]["test_in_train"], 1);
  ASSERT_EQ(warnings.texts.size(), 1u);
  EXPECT_THAT(warnings.texts[0], HasSubstr("again.png"));
  EXPECT_THAT(read_file(fs::path(results["run"].get<std::string>()) / "run.log", 1 << 20), HasSubstr("WARNING"));
}

TEST_F(LearnTask, WarnsOfImagesThatLieInNoClassFolder) {
  Warnings warnings;
  fs::copy_file(data() / "red" / "0.png", data() / "stray.png");
  LearnRequest asked = request();
  asked.listener = &warnings;
  learn_task(asked);
  EXPECT_THAT(warnings.texts, ElementsAre(HasSubstr("left out: stray.png")));
}

TEST_F(LearnTask, HeadsForFixedFeaturesLearnOnTheFeaturesThatTheyAreMeasuredOn) {
  const auto sums = [&](std::optional<bool> bf16, const std::string& task) {
    LearnRequest asked = request(task);
    asked.plugs = {"ncm"};
    asked.bf16 = bf16;
    asked.shared = task;  // or they would add up
    learn_task(asked);
    const auto record = ModelDirectory::open(model(), true).load(task);
    return record.model.numbers().at("ncm", Scope::kShared).tensor("sum").clone();
  };
  const at::Tensor by_default = sums({}, "default"), fp32 = sums(false, "fp32"), bf16 = sums(true, "bf16");
  EXPECT_TRUE(by_default.equal(fp32));
  EXPECT_FALSE(by_default.equal(bf16)) << "the format matters";
  LearnRequest asked = request();
  asked.plugs = {"g-acil:width=64"};
  EXPECT_THAT(learn_settings_yaml(asked), HasSubstr("amp: fp32"));
  asked.plugs = {"linear-probe"};
  EXPECT_THAT(learn_settings_yaml(asked), HasSubstr(multiplies_bf16() ? "amp: bf16" : "amp: fp32"));
}

TEST_F(LearnTask, NamesAMissingModelDirectory) {
  LearnRequest bad = request();
  bad.directory = folder_ / "no-model";
  EXPECT_THAT(refused(Code::kNotFound, bad), HasSubstr("no-model"));
}

TEST_F(LearnTask, RefusesATaskNameThatDiffersInCaseOnly) {
  learn_task(request("colours"));
  EXPECT_THAT(refused(Code::kAlreadyExists, request("Colours")), HasSubstr("'colours'"));
}

}  // namespace
}  // namespace recast
