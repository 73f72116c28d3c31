#include "recast/run/image_pool.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "recast/run/evaluate_task.h"
#include "recast/run/learn_task.h"
#include "recast/run/model_directory.h"
#include "run/toy_model.h"

namespace recast {
namespace {

class ImagePoolTest : public ::testing::Test {
 protected:
  ImagePoolTest() {
    write_toy_model(folder_ / "model");
    write_toy_images(folder_ / "data", {"blue", "green", "red"}, 12);
  }
  ImageChoice choice() const {
    ImageChoice choice;
    choice.data = folder_ / "data";
    return choice;
  }
  LearnRequest request(const std::string& task, ImagePool* pool) const {
    LearnRequest request;
    request.directory = folder_ / "model";
    request.data = folder_ / "data";
    request.task = task;
    request.epochs = 1;
    request.batch_size = 8;
    request.classes = {"red", "blue"};
    request.limit_validation = 1;
    request.pool = pool;
    return request;
  }
  TemporaryFolder folder_;
};

TEST_F(ImagePoolTest, OpensADatasetOnceAndDropsTheOneUsedLongestAgo) {
  ImagePool pool(2);
  const auto first = pool.dataset(choice());
  EXPECT_EQ(pool.dataset(choice()), first);
  ImageChoice other = choice();
  other.split_seed = 7;
  const auto second = pool.dataset(other);
  EXPECT_NE(second, first);
  EXPECT_EQ(pool.dataset(choice()), first);
  ImageChoice third = choice();
  third.limit_train = 2;
  pool.dataset(third);
  EXPECT_EQ(pool.dataset(choice()), first) << "used later than the second";
  EXPECT_NE(pool.dataset(other), second) << "opened anew";
  EXPECT_EQ(second->classes().size(), 3u) << "whoever holds it may go on";
}

TEST_F(ImagePoolTest, SharesPixelsOfOneWayToCutAndScale) {
  ImagePool pool;
  const auto dataset = pool.dataset(choice());
  Preprocessing small{8, 1.0, "bicubic"}, shifted = small;
  shifted.mean = {0, 0, 0};
  const auto pixels = pool.pixels(dataset, Split::kTrain, small);
  EXPECT_EQ(pool.pixels(dataset, Split::kTrain, shifted), pixels);
  EXPECT_NE(pool.pixels(dataset, Split::kTest, small), pixels);
  small.size_px = 10;
  EXPECT_NE(pool.pixels(dataset, Split::kTrain, small), pixels);
  EXPECT_EQ(pool.contents(dataset, {}), pool.contents(dataset, {}));
}

TEST_F(ImagePoolTest, ChangesNothingOfWhatIsLearned) {
  const nlohmann::json alone = learn_task(request("alone", nullptr)).results;
  ImagePool pool;
  const ModelDirectory opened = ModelDirectory::open(folder_ / "model", true);
  LearnRequest sharing = request("first", &pool);
  sharing.opened = &opened;
  const nlohmann::json first = learn_task(sharing).results;
  sharing.task = "second";
  const nlohmann::json second = learn_task(sharing).results;
  for (const char* key : {"test", "validation", "kept", "candidates", "images", "labels"}) {
    EXPECT_EQ(first[key], alone[key]) << key;
    EXPECT_EQ(second[key], alone[key]) << key;
  }
  EXPECT_EQ(alone["labels"], nlohmann::json({"blue", "red"}));
  EXPECT_EQ(alone["images"]["validation"], 2);
  EvaluateRequest measure;
  measure.task = "second";
  measure.pool = &pool;
  EXPECT_EQ(evaluate_tasks(opened.with_fresh_store(), measure)["loss"], alone["test"]["loss"]);
  measure.task = "alone";
  measure.pool = nullptr;
  const nlohmann::json again = evaluate_tasks(ModelDirectory::open(folder_ / "model", true), measure);
  EXPECT_EQ(again["loss"], alone["test"]["loss"]) << "the chosen classes are found again by the record";
  EXPECT_TRUE(again["notes"].empty()) << again["notes"].dump();
}

TEST_F(ImagePoolTest, RecordsNameTheSameImages) {
  ImageChoice wanted = choice();
  wanted.split_seed = 3;
  wanted.classes = {"blue", "red"};
  wanted.limit_train = 4;
  wanted.limit_validation = 1;
  wanted.limit_test = 2;
  EXPECT_EQ(recorded_images(describe_splits(*open_images(wanted))), wanted);
  EXPECT_EQ(recorded_images(describe_splits(*open_images(choice()))), choice());
  EXPECT_EQ(recorded_images(nlohmann::json()), ImageChoice());
  EXPECT_EQ(recorded_images({{"limits", nullptr}, {"chosen", 1}}), ImageChoice());
}

}  // namespace
}  // namespace recast
