#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "format/expect_error.h"
#include "format/python_tool.h"
#include "recast/base/statistics.h"
#include "recast/data/dataset.h"
#include "recast/run/compare_tasks.h"
#include "recast/run/learn_seeds.h"
#include "recast/run/predict_images.h"
#include "run/toy_model.h"

namespace recast {
namespace {
namespace fs = std::filesystem;
using ::testing::HasSubstr;

class Seeds : public ::testing::Test {
 protected:
  Seeds() {
    write_toy_model(model());
    write_toy_images(folder_ / "data", {"blue", "green", "red"}, 12);
  }
  fs::path model() const { return folder_ / "model"; }
  fs::path group() const { return model() / "runs" / "colours" / "v1-seeds"; }
  LearnRequest request(std::vector<std::uint64_t> seeds) const {
    LearnRequest request;
    request.directory = model();
    request.data = folder_ / "data";
    request.task = "colours";
    request.epochs = 1;
    request.batch_size = 8;
    request.augmentation = "paper";
    request.seeds = std::move(seeds);
    return request;
  }
  nlohmann::json compare(std::vector<std::string> a, std::vector<std::string> b) const {
    CompareRequest request;
    request.a = std::move(a);
    request.b = std::move(b);
    return compare_tasks(ModelDirectory::open(model(), true), request);
  }
  static nlohmann::json json_of(const fs::path& file) { return nlohmann::json::parse(read_file(file, 1 << 24)); }

  TemporaryFolder folder_;
};

TEST_F(Seeds, EachStoresAVersionAndTheSummaryIsTheirs) {
  const nlohmann::json results = learn_with_seeds(request({5, 6, 7}));
  EXPECT_EQ(results["task_versions"], nlohmann::json({1, 2, 3}));
  EXPECT_EQ(json_of(group() / "results.json"), results);
  std::vector<double> tests;
  for (const std::uint64_t seed : {5, 6, 7}) {
    const nlohmann::json one = json_of(group() / fmt::format("seed-{}", seed) / "results.json");
    EXPECT_EQ(one["seed"], seed);
    tests.push_back(one["test"]["top1"]);
  }
  EXPECT_EQ(results["test_top1"]["values"].get<std::vector<double>>(), tests);
  EXPECT_NEAR(results["test_top1"]["mean"], (tests[0] + tests[1] + tests[2]) / 3, 1e-15);
  EXPECT_EQ(results["test_top1"]["interval95"][0], spread(tests).interval95->low);
  EXPECT_EQ(ModelDirectory::open(model(), true).record("colours:2").recipe["seed"], 6);
}

/// Stops once a run of `seed` has reported an epoch.
class StopAtSeed final : public Listener {
 public:
  explicit StopAtSeed(std::uint64_t seed) : text_(fmt::format("seed {}", seed)) {}
  void note(const std::string& text) override { here_ = here_ || text == text_; }
  void epoch(const EpochMetrics& metrics) override { stop = here_ && metrics.stage == "train"; }
  std::atomic<bool> stop = false;

 private:
  std::string text_;
  bool here_ = false;
};

TEST_F(Seeds, ResumeGoesOnWithTheSeedThatWasStopped) {
  StopAtSeed stopper(6);
  LearnRequest stopped = request({5, 6});
  stopped.listener = &stopper;
  stopped.stop = &stopper.stop;
  error_of(Code::kCancelled, [&] { learn_with_seeds(stopped); });
  EXPECT_FALSE(fs::exists(group() / "results.json"));
  EXPECT_TRUE(fs::exists(group() / "seed-5" / "results.json"));

  LearnRequest resumed = request({5, 6});
  resumed.resume = true;
  const nlohmann::json results = learn_with_seeds(resumed);
  EXPECT_EQ(results["task_versions"], nlohmann::json({1, 2}));
  EXPECT_EQ(learn_with_seeds(resumed)["test_top1"], results["test_top1"]) << "complete: nothing is learned again";
  EXPECT_EQ(ModelDirectory::open(model(), true).store().log("colours").size(), 2u);

  LearnRequest alone = request({});
  alone.seed = 6;
  alone.task = "alone";
  EXPECT_EQ(learn_task(alone).results["test"], results["runs"][1]["test"]);
  EXPECT_THAT(error_of(Code::kAlreadyExists,
                       [&] {
                         LearnRequest again = request({5, 6});
                         again.run_folder = group();
                         learn_with_seeds(again);
                       }),
              HasSubstr("--resume"));
}

TEST_F(Seeds, ResumeRefusesAnotherList) {
  learn_with_seeds(request({5}));
  LearnRequest other = request({6});
  other.resume = true;
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { learn_with_seeds(other); }),
              HasSubstr("seeds '5', now it is '6'"));
  EXPECT_EQ(json_of(group() / "results.json")["seeds"], nlohmann::json({5}));
}

TEST_F(Seeds, RefuseRecipesWhoseTasksShareAState) {
  LearnRequest shared = request({5, 6});
  shared.plugs = {"finetune"};
  EXPECT_THAT(error_of(Code::kUnsupported, [&] { learn_with_seeds(shared); }), HasSubstr("--shared-state"));
  EXPECT_FALSE(fs::exists(model() / "runs"));
}

TEST_F(Seeds, AreWholeNumbersEachOnce) {
  EXPECT_THAT(error_of(Code::kInvalidArgument,
                       [&] {
                         learn_with_seeds(request({5, 6, 5}));
                       }),
              HasSubstr("seed 5 is given twice"));
  EXPECT_FALSE(fs::exists(model() / "runs"));
  EXPECT_EQ(parse_seeds("42,1998,18446744073709551615"), (std::vector<std::uint64_t>{42, 1998, 18446744073709551615u}));
  for (const char* bad : {"", ",", "1,", "1,,2", "-1", "1.5", "1, 2", "1,1", "18446744073709551616", "one"})
    EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { parse_seeds(bad); }), HasSubstr("--seeds")) << bad;
}

TEST_F(Seeds, ResultsFollowThePublishedSchema) {
  const nlohmann::json results = learn_with_seeds(request({5, 6}));
  LearnRequest without_test = request({});
  without_test.test = false;
  without_test.task = "untested";
  const nlohmann::json untested = learn_task(without_test).results;
  const std::string schema = RECAST_SOURCE_DIR "/docs/results.schema.json";
  RECAST_NEED_PYTHON("jsonschema");
  int cases = 0;
  auto verdict = [&](const nlohmann::json& document) {
    const fs::path file = folder_ / fmt::format("{}.json", cases++);
    write_text(file, document.dump());
    return run_program({python_path(), RECAST_SOURCE_DIR "/tests/run/check_schema.py", schema, file.string()});
  };
  for (const nlohmann::json& good : {results, results["runs"][0], untested}) {
    const auto answer = verdict(good);
    EXPECT_EQ(answer.status, 0) << answer.text;
  }
  nlohmann::json bad = results["runs"][0];
  bad["test"].erase("top1");
  EXPECT_THAT(verdict(bad).text, HasSubstr("test: "));
  bad = results["runs"][0];
  bad["accuracy"] = 1;
  EXPECT_THAT(verdict(bad).text, HasSubstr("accuracy"));
  bad = results;
  bad["schema"] = "recast-seeds-2";
  EXPECT_NE(verdict(bad).status, 0);
}

/// Which of the test images the task answers rightly, asked by another way: predict.
std::vector<bool> answers(const fs::path& model, const std::string& task, const Dataset& dataset) {
  PredictRequest request;
  request.task = task;
  for (const Example& example : dataset.examples(Split::kTest)) request.images.push_back(dataset.path() / example.id);
  std::vector<bool> right;
  const nlohmann::json predictions = predict_images(ModelDirectory::open(model, true), request)["predictions"];
  for (std::size_t i = 0; i < predictions.size(); ++i)
    right.push_back(predictions[i]["label"] ==
                    dataset.classes()[static_cast<std::size_t>(dataset.examples(Split::kTest)[i].label)]);
  return right;
}

TEST_F(Seeds, ComparisonCountsTheImagesThatOnlyOneHasRight) {
  learn_with_seeds(request({5, 6}));
  LearnRequest weak = request({5, 6});
  weak.task = "weak";
  weak.plugs = {"linear-probe"};
  weak.limit_train = 1;
  learn_with_seeds(weak);
  // One image of each class to learn from, the same test images.
  const nlohmann::json two = compare({"weak:1", "weak:2"}, {"colours:1", "colours:2"});
  const auto dataset = open_dataset(folder_ / "data");
  for (int pair = 0; pair < 2; ++pair) {
    const auto a = answers(model(), fmt::format("weak:{}", pair + 1), *dataset);
    const auto b = answers(model(), fmt::format("colours:{}", pair + 1), *dataset);
    std::int64_t only_a = 0, only_b = 0;
    for (std::size_t i = 0; i < a.size(); ++i) only_a += a[i] && !b[i], only_b += b[i] && !a[i];
    EXPECT_EQ(two["pairs"][pair]["only_a"], only_a);
    EXPECT_EQ(two["pairs"][pair]["only_b"], only_b);
    EXPECT_NEAR(two["pairs"][pair]["difference"], static_cast<double>(only_b - only_a) / static_cast<double>(a.size()),
                1e-12);
  }
  const std::vector<double> differences = {two["pairs"][0]["difference"], two["pairs"][1]["difference"]};
  EXPECT_EQ(two["over_seeds"]["p"], paired_t_p(differences).value());
  EXPECT_EQ(two["over_images"]["test"], "paired t");
  const nlohmann::json one = compare({"weak:1"}, {"colours:1"});
  EXPECT_TRUE(one["over_seeds"].is_null());
  EXPECT_EQ(one["over_images"]["p"], mcnemar_p(one["pairs"][0]["only_a"], one["pairs"][0]["only_b"]));
  for (const char* key : {"command", "seconds", "machine", "versions", "finished_utc"}) EXPECT_TRUE(one.contains(key));
}

TEST_F(Seeds, ComparisonRefusesTestImagesThatOneMayHaveLearned) {
  LearnRequest here = request({}), there = request({});
  here.task = "here";
  there.task = "there";
  there.split_seed = 43;
  learn_task(here);
  learn_task(there);
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { compare({"here"}, {"there"}); }), HasSubstr("--data"));
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { compare({"here", "here"}, {"there"}); }), HasSubstr("2 and 1"));
  EXPECT_THAT(error_of(Code::kInvalidArgument,
                       [&] {
                         compare({"here", "here:1"}, {"here", "here"});
                       }),
              HasSubstr("'here:1' is given twice on one side"));
  CompareRequest seen;
  seen.a = {"here"};
  seen.b = {"there"};
  seen.data = folder_ / "data" / "";
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { compare_tasks(ModelDirectory::open(model(), true), seen); }),
              HasSubstr("'there'"));
  write_toy_images(folder_ / "unseen", {"blue", "green", "red"}, 9, 77);
  CompareRequest request;
  request.a = {"here"};
  request.b = {"there"};
  request.data = folder_ / "unseen";
  EXPECT_GT(compare_tasks(ModelDirectory::open(model(), true), request)["rows"], 2);
}

}  // namespace
}  // namespace recast
