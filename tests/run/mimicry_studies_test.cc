#include "recast/run/mimicry_studies.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "format/expect_error.h"
#include "model/toy_cnn.h"
#include "recast/run/import_checkpoint.h"
#include "recast/run/mimic_directory.h"
#include "recast/run/model_directory.h"
#include "run/toy_model.h"

namespace recast {
namespace {
namespace fs = std::filesystem;
using ::testing::HasSubstr;

const std::vector<std::string> kLabels = {"blue", "green", "other", "red"};

/// A random classifier as the task that an import would have made.
void add_pretrained(const fs::path& directory) {
  const ModelDirectory model = ModelDirectory::open(directory, false);
  const auto recipe = compose({}, model.backbone()->anatomy());
  TaskRecord task;
  task.name = kPretrainedTask;
  task.fingerprint = model.fingerprint();
  task.plugs = recipe->specs();
  task.labels = kLabels;
  task.recipe = {{"name", "import"}};
  const Plug& head = recipe->head();
  ASSERT_TRUE(
      head.roles.head->adopt(Key(4).normal({4, 32}), Key(5).normal({4}), task.numbers.at(head.alias(), Scope::kTask)));
  model.store().commit(task);
}

class StudiesTest : public ::testing::Test {
 protected:
  StudiesTest() {
    write_toy_model(folder_ / "model");
    add_pretrained(folder_ / "model");
    write_toy_images(folder_ / "data", {"blue", "green", "red"}, 20);
  }
  MimicryStudy study(const fs::path& out = {}) const {
    MimicryStudy study;
    study.directory = folder_ / "model";
    study.options = {.target = "all", .groups = 2, .templates = 1};
    study.images.data = folder_ / "data";
    study.out = out;
    return study;
  }
  MimicRequest healing(std::int64_t steps, const char* out) const {
    MimicRequest request{folder_ / "model", {.target = "attn+mlp", .groups = 1, .templates = 2}, folder_ / out};
    request.heal.steps = steps;
    request.heal.images.data = folder_ / "data";
    return request;
  }
  static std::string text_of(const fs::path& file) {
    std::ostringstream text;
    text << std::ifstream(file, std::ios::binary).rdbuf();
    return text.str();
  }

  TemporaryFolder folder_;
};

TEST_F(StudiesTest, ComparesEverySolverInWeightsFeaturesAndAnswers) {
  MimicryStudy asked = study(folder_ / "page.html");
  asked.options.steps = 600;
  const nlohmann::json document = compare_solvers(asked);
  ASSERT_EQ(document["solvers"].size(), 3U);
  const std::vector<std::string> names = mimicry_solver_names();
  for (std::size_t i = 0; i < 3; ++i) {
    const auto& row = document["solvers"][i];
    ASSERT_FALSE(row.contains("failed")) << row;
    EXPECT_EQ(row["solver"], names[i]);
    EXPECT_EQ(row["slots"].size(), 16U);
    EXPECT_EQ(row["likeness"]["features"].size(), 5U);
    EXPECT_EQ(row["likeness"]["features"].back()["layer"], "features");
    EXPECT_EQ(row["likeness"]["task"]["rows"], document["images"]["images"]);
    EXPECT_TRUE(row["likeness"]["task"]["top1"].is_number());
    EXPECT_GE(row["relative_error"], document["solvers"][0]["relative_error"]);
    EXPECT_LT(row["relative_error"], 1);
  }
  EXPECT_EQ(document["closed_has_least_error"], true);
  EXPECT_GT(document["least_speed_ratio"], 1);
  EXPECT_TRUE(document["images"]["notes"].empty());
  const std::string page = text_of(folder_ / "page.html");
  EXPECT_THAT(page, HasSubstr("<svg"));
  EXPECT_THAT(page, HasSubstr("gradient"));
  EXPECT_THAT(page, HasSubstr("</html>"));
}

TEST_F(StudiesTest, FindsNothingLostWhereClosedIsExact) {
  MimicryStudy asked = study(folder_ / "document.json");
  asked.options = {.target = "all", .groups = 2, .templates = 2, .steps = 300};
  asked.images.count = 5;
  const nlohmann::json document = compare_solvers(asked);
  const auto& closed = document["solvers"][0];
  EXPECT_EQ(closed["relative_error"], 0);
  EXPECT_NEAR(closed["likeness"]["mean_feature_cosine"].get<double>(), 1, 1e-12);
  EXPECT_EQ(closed["likeness"]["task"]["same_answers"], 1);
  EXPECT_EQ(closed["likeness"]["task"]["top1"], closed["likeness"]["task"]["top1_original"]);
  EXPECT_EQ(document["images"]["images"], 5);
  EXPECT_EQ(nlohmann::json::parse(text_of(folder_ / "document.json")), document);
}

TEST_F(StudiesTest, SaysWhatItCannotMeasure) {
  MimicryStudy asked = study();
  asked.options.steps = 300;
  asked.images.data.clear();
  const nlohmann::json without = compare_solvers(asked);
  EXPECT_TRUE(without["images"].is_null());
  EXPECT_TRUE(without["solvers"][0]["likeness"].is_null());

  write_toy_images(folder_ / "strange", {"blue", "mauve"}, 10);
  asked.images.data = folder_ / "strange";
  const nlohmann::json strange = compare_solvers(asked);
  EXPECT_THAT(strange["images"]["notes"][0].get<std::string>(), HasSubstr("'mauve' of the images is no label"));
  EXPECT_TRUE(strange["solvers"][0]["likeness"]["task"]["top1"].is_null());
  EXPECT_TRUE(strange["solvers"][0]["likeness"]["task"]["same_answers"].is_number());
}

TEST_F(StudiesTest, ShowsASolverThatDivergesAsSuch) {
  MimicryStudy asked = study();
  asked.options.rate = 1e30;
  const nlohmann::json document = compare_solvers(asked);
  EXPECT_FALSE(document["solvers"][0].contains("failed"));
  for (const int i : {1, 2})
    EXPECT_THAT(document["solvers"][i]["failed"].get<std::string>(), HasSubstr("diverged at step"));
  EXPECT_TRUE(document["least_speed_ratio"].is_null());
}

TEST_F(StudiesTest, SweepsAsFarAsThereAreLayers) {
  MimicryStudy asked = study(folder_ / "sizes.html");
  asked.images.count = 4;
  const nlohmann::json document = sweep_mimicry(asked);
  ASSERT_EQ(document["points"].size(), 16U);  // 1 to 4 groups of 4 layers
  EXPECT_EQ(document["skipped"].size(), 2U);
  EXPECT_THAT(document["skipped"][0]["reason"].get<std::string>(), HasSubstr("groups must lie in 1..4, got 6"));
  double last_error = 0, last_bytes = 0;
  for (const auto& point : document["points"]) {
    if (point["templates"] != 1) {
      EXPECT_LE(point["relative_error"], last_error) << point;
      EXPECT_GT(point["bytes"], last_bytes) << point;
    }
    EXPECT_EQ(point["exact"], point["relative_error"] == 0);
    last_error = point["relative_error"], last_bytes = point["bytes"];
  }
  EXPECT_EQ(document["points"][3]["exact"], true);   // 1 group of 4 layers, 4 templates
  EXPECT_EQ(document["points"][0]["exact"], false);  // and 1
  EXPECT_THAT(text_of(folder_ / "sizes.html"), HasSubstr("4 groups"));
}

TEST_F(StudiesTest, RefusesBeforeAnythingIsMeasured) {
  MimicryStudy asked = study(folder_ / "page.txt");
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { compare_solvers(asked); }), HasSubstr("FILE.html"));
  write_text(folder_ / "there.html", "old");
  asked.out = folder_ / "there.html";
  EXPECT_THAT(error_of(Code::kAlreadyExists, [&] { sweep_mimicry(asked); }), HasSubstr("--force"));
  asked.out.clear();
  asked.options.target = "atn";
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { compare_solvers(asked); }), HasSubstr("did you mean attn?"));
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { sweep_mimicry(asked); }), HasSubstr("did you mean attn?"));
  asked = study();
  asked.images.count = 0;
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { compare_solvers(asked); }), HasSubstr("--images"));
  asked.images = {folder_ / "nothing"};
  error_of(Code::kNotFound, [&] { compare_solvers(asked); });
  asked.images = {folder_ / "data", 4, 17};
  error_of(Code::kShapeMismatch, [&] { compare_solvers(asked); });
  EXPECT_EQ(text_of(folder_ / "there.html"), "old");
}

TEST_F(StudiesTest, StopsWithNothingWritten) {
  const std::atomic<bool> stop = true;
  MimicryStudy asked = study(folder_ / "page.html");
  asked.watch.stop = &stop;
  error_of(Code::kCancelled, [&] { compare_solvers(asked); });
  error_of(Code::kCancelled, [&] { sweep_mimicry(asked); });
  EXPECT_FALSE(fs::exists(folder_ / "page.html"));
  MimicRequest request = healing(5, "healed");
  request.watch.stop = &stop;
  error_of(Code::kCancelled, [&] { mimic_directory(request); });
  EXPECT_FALSE(fs::exists(folder_ / "healed"));
}

TEST_F(StudiesTest, HealingBringsTheFeaturesBack) {
  const nlohmann::json report = mimic_directory(healing(60, "healed"));
  const auto& heal = report["heal"];
  EXPECT_EQ(heal["kept"], true);
  EXPECT_LT(heal["loss_last"], heal["loss_first"]);
  EXPECT_GT(heal["mean_feature_cosine"]["after"].get<double>(),
            heal["mean_feature_cosine"]["before"].get<double>() + 0.01);
  EXPECT_EQ(heal["features"].size(), 5U);
  EXPECT_EQ(heal["task"]["after"]["rows"], heal["test_images"]);
  EXPECT_EQ(report["solver"], "closed+heal");

  // A normal model directory of its own content, the same for the same seed.
  const ModelDirectory healed = ModelDirectory::open(folder_ / "healed", true);
  EXPECT_EQ(healed.fingerprint(), report["fingerprint"]);
  EXPECT_TRUE(healed.store().load(kPretrainedTask));
  EXPECT_EQ(mimic_directory(healing(60, "again"))["fingerprint"], report["fingerprint"]);
  MimicRequest other = healing(60, "other");
  other.options.seed = 7;
  EXPECT_NE(mimic_directory(other)["fingerprint"], report["fingerprint"]);
  EXPECT_NE(mimic_directory(healing(0, "plain"))["fingerprint"], report["fingerprint"]);
  EXPECT_TRUE(mimic_directory(healing(0, "unhealed"))["heal"].is_null());
}

TEST_F(StudiesTest, WorkOnConvolutionalNetworksToo) {
  write_model_files(folder_ / "cnn", toy_cnn(), false);
  MimicryStudy asked = study();
  asked.directory = folder_ / "cnn";
  asked.options = {.templates = 1, .steps = 400};
  const nlohmann::json compared = compare_solvers(asked);
  EXPECT_EQ(compared["target"], "conv");
  EXPECT_EQ(compared["groups"], 1);
  EXPECT_EQ(compared["closed_has_least_error"], true);
  EXPECT_EQ(compared["solvers"][0]["likeness"]["features"].size(), 7U);  // six blocks and the features
  for (const auto& row : compared["solvers"]) EXPECT_FALSE(row.contains("failed")) << row;
  asked.options.steps = 0;  // closed takes none
  EXPECT_EQ(sweep_mimicry(asked)["points"].size(), 8U);  // 1 and 2 groups

  MimicRequest request = healing(60, "healed-cnn");
  request.directory = folder_ / "cnn";
  request.options = {.templates = 1};
  const nlohmann::json heal = mimic_directory(request)["heal"];
  EXPECT_EQ(heal["kept"], true);
  EXPECT_GT(heal["mean_feature_cosine"]["after"], heal["mean_feature_cosine"]["before"]);
}

TEST_F(StudiesTest, HealingMovesBanksAndNothingElse) {
  mimic_directory(healing(0, "plain"));
  mimic_directory(healing(3, "healed"));
  const ModelFiles plain = read_model_files(folder_ / "plain"), healed = read_model_files(folder_ / "healed");
  for (const auto& [name, tensor] : plain.backbone) EXPECT_TRUE(healed.backbone.at(name).equal(tensor)) << name;
  for (const auto& [name, tensor] : plain.bank) {
    EXPECT_EQ(healed.bank.at(name).sizes(), tensor.sizes()) << name;
    EXPECT_FALSE(healed.bank.at(name).equal(tensor)) << name;
  }
}

TEST_F(StudiesTest, HealingRefusesWhatCannotWork) {
  MimicRequest request = healing(5, "healed");
  request.heal.images.data.clear();
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { mimic_directory(request); }), HasSubstr("give --data PATH"));
  request = healing(-1, "healed");
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { mimic_directory(request); }), HasSubstr("--heal must lie in"));
  request = healing(5, "healed");
  request.heal.rate = 2;
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { mimic_directory(request); }), HasSubstr("--heal-rate"));
  request = healing(5, "healed");
  request.options.templates = 4;
  EXPECT_THAT(mimic_directory(request)["heal"]["skipped"].get<std::string>(), HasSubstr("nothing to heal"));
  EXPECT_THAT(error_of(Code::kAlreadyExists, [&] { mimic_directory(request); }), HasSubstr("--force"));
}

}  // namespace
}  // namespace recast
