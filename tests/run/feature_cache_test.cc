// Features kept: from images once, from disk and memory afterwards, made again where a file is damaged.
#include "recast/run/feature_cache.h"

#include <gtest/gtest.h>

#include "recast/data/contents.h"
#include "run/toy_model.h"

namespace recast {
namespace {
namespace fs = std::filesystem;

class FeatureCacheTest : public testing::Test {
 protected:
  FeatureCacheTest() {
    write_toy_model(folder_ / "model");
    write_toy_images(folder_ / "data", {"blue", "green", "red"}, 12);
    directory_.emplace(ModelDirectory::open(folder_ / "model", true));
    reopen();
  }
  void reopen() {
    dataset_ = open_dataset(folder_ / "data");
    contents_ = scan_contents(*dataset_);
  }
  FeatureRequest request(Split split = Split::kTrain) const {
    return {*directory_, *dataset_, contents_, split, directory_->files().config.preprocessing};
  }
  fs::path cache() const { return folder_ / "cache"; }

  TemporaryFolder folder_;
  std::optional<ModelDirectory> directory_;
  std::unique_ptr<Dataset> dataset_;
  Contents contents_;
};

TEST_F(FeatureCacheTest, MakesThemOnceAndReadsThemAfterwards) {
  FeatureCache first(cache());
  const SplitFeatures made = first.features(request()), again = first.features(request());
  EXPECT_EQ(made.from, "images");
  EXPECT_EQ(again.from, "memory");
  const SplitFeatures read = FeatureCache(cache()).features(request());
  EXPECT_EQ(read.from, "disk");
  for (const SplitFeatures* other : {&again, &read}) {
    EXPECT_TRUE(at::equal(made.features, other->features));
    EXPECT_TRUE(at::equal(made.labels, other->labels));
    EXPECT_TRUE(at::equal(made.rows, other->rows));
  }
  const ImageSource images(std::shared_ptr<const Dataset>(std::shared_ptr<void>(), dataset_.get()), Split::kTrain,
                           directory_->files().config.preprocessing, {});
  const Model model(directory_->backbone(), compose({}, directory_->backbone()->anatomy()), {});
  const FeatureTable table = extract_features(model, images, false);
  EXPECT_TRUE(at::equal(made.features, table.features));
  EXPECT_TRUE(at::equal(made.labels, table.labels));
}

TEST_F(FeatureCacheTest, KeepsWhatDiffersApart) {
  FeatureCache first(cache());
  first.features(request());
  EXPECT_EQ(first.features(request(Split::kTest)).from, "images");
  FeatureRequest larger = request();
  larger.preprocessing.crop_pct = 0.9;
  EXPECT_EQ(first.features(larger).from, "images");
  FeatureRequest rounded = request();
  rounded.bf16 = true;
  EXPECT_EQ(first.features(rounded).from, "images");
  fs::copy_file(folder_ / "data/blue/1.png", folder_ / "data/blue/0.png", fs::copy_options::overwrite_existing);
  reopen();
  int made = 0;
  for (const Split split : kSplits) made += first.features(request(split)).from == "images";
  EXPECT_GE(made, 1) << "an image was replaced by another";
}

TEST_F(FeatureCacheTest, MakesADamagedFileAgain) {
  FeatureCache first(cache());
  const SplitFeatures made = first.features(request());
  const fs::path file = first.file(request());
  std::string bytes = read_file(file, 1 << 20);
  for (const std::string& damage : {std::string(), bytes.substr(0, bytes.size() / 2), std::string("not a file"), [&] {
                                      std::string one = bytes;
                                      one[one.size() - 3] ^= 1;
                                      return one;
                                    }()}) {
    write_text(file, damage);
    const SplitFeatures again = FeatureCache(cache()).features(request());
    EXPECT_EQ(again.from, "images") << damage.size();
    EXPECT_TRUE(at::equal(again.features, made.features));
    EXPECT_EQ(read_file(file, 1 << 20), bytes) << "and the file is whole again";
  }
  fs::copy_file(first.file(request()), first.file(request(Split::kTest)));
  EXPECT_EQ(FeatureCache(cache()).features(request(Split::kTest)).from, "images") << "another split's file";
}

TEST_F(FeatureCacheTest, KeepsToItsCaps) {
  FeatureCache small(cache(), /*memory_bytes=*/0);
  small.features(request());
  EXPECT_EQ(small.bytes_in_memory(), 0);
  EXPECT_EQ(small.features(request()).from, "disk");
  const auto size = static_cast<std::int64_t>(fs::file_size(small.file(request())));
  FeatureCache tight(cache(), 0, /*disk_bytes=*/size + 16);
  tight.features(request(Split::kTest));
  EXPECT_FALSE(fs::exists(tight.file(request()))) << "the one used longest ago goes";
  EXPECT_TRUE(fs::exists(tight.file(request(Split::kTest))));
  FeatureCache nowhere(fs::path{}, 0);
  EXPECT_EQ(nowhere.features(request()).from, "images");
  EXPECT_EQ(nowhere.features(request()).from, "images");
}

TEST_F(FeatureCacheTest, GoesOnWhereNothingCanBeWritten) {
  write_text(cache(), "a file where the folder should be");
  EXPECT_EQ(FeatureCache(cache()).features(request()).from, "images");
}

TEST_F(FeatureCacheTest, LeavesOutWhatCannotBeDecodedTheSameEachTime) {
  write_text(folder_ / "data/blue/0.png", "no image");
  reopen();
  for (const char* from : {"images", "disk"}) {
    FeatureCache fresh(cache());
    std::size_t bad = 0;
    for (const Split split : kSplits) {
      FeatureRequest skipping = request(split);
      skipping.bad_images = BadImages::kSkip;
      const SplitFeatures made = fresh.features(skipping);
      EXPECT_EQ(made.from, from);
      bad += made.bad.size();
      EXPECT_EQ(made.rows.size(0) + static_cast<std::int64_t>(made.bad.size()),
                static_cast<std::int64_t>(dataset_->examples(split).size()));
    }
    EXPECT_EQ(bad, 1u);
  }
}

}  // namespace
}  // namespace recast
