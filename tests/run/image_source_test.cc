// Images that cannot be decoded, as learning meets them.
#include "recast/run/image_source.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "data/data_files.h"
#include "format/expect_error.h"
#include "format/temporary_folder.h"
#include "toy_model.h"

namespace recast {
namespace {
namespace fs = std::filesystem;

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const Preprocessing kSmall{16, 1.0, "bicubic"};

class BadImageTest : public ::testing::Test {
 protected:
  BadImageTest() {
    write_toy_images(folder_.path(), {"a", "b"}, 12);
    open();
  }

  void open() { data_ = open_dataset(folder_.path()); }
  fs::path file(Split split, std::int64_t row) const { return data_->stored(split, row).file; }
  const std::string& id(Split split, std::size_t row) const { return data_->examples(split)[row].id; }
  ImageSource source(Split split, BadImages bad, std::int64_t cache_bytes = 0) const {
    ImageSourceOptions options;
    options.bad_images = bad;
    options.cache_bytes = cache_bytes;
    options.augmentation = Augmentation::paper();
    return ImageSource(data_, split, kSmall, options);
  }
  // "sample", and the pixels of each, of all rows.
  static std::pair<std::vector<std::int64_t>, at::Tensor> read(const ImageSource& source, std::int64_t batch_size) {
    std::pair<std::vector<std::int64_t>, at::Tensor> out;
    std::vector<at::Tensor> inputs;
    const auto stream = source.open(all_rows(source.rows()), batch_size, true, Key(3));
    while (const auto batch = stream->next()) {
      const at::Tensor rows = batch->at.at("sample");
      for (std::int64_t i = 0; i < rows.size(0); ++i) out.first.push_back(rows[i].item<std::int64_t>());
      inputs.push_back(batch->at.at("input"));
    }
    out.second = at::cat(inputs);
    return out;
  }

  const TemporaryFolder folder_;
  std::shared_ptr<const Dataset> data_;
};

TEST_F(BadImageTest, StopNamesTheFirstOne) {
  write_bytes(file(Split::kTrain, 11), "not an image");
  write_bytes(file(Split::kTrain, 4), "");
  auto images = source(Split::kTrain, BadImages::kStop);
  EXPECT_THAT(error_of(Code::kDataCorruption, [&] { images.decode_all(nullptr, nullptr); }),
              HasSubstr(id(Split::kTrain, 4) + ": is empty"));
}

TEST_F(BadImageTest, SkipLeavesThemOutAndNoOtherImageChanges) {
  auto whole = source(Split::kTrain, BadImages::kSkip);
  whole.decode_all(nullptr, nullptr);
  EXPECT_TRUE(whole.skipped().empty());
  const auto [rows, pixels] = read(whole, 5);
  write_bytes(file(Split::kTrain, 4), "");
  write_bytes(file(Split::kTrain, 11), "GIF89a");
  auto images = source(Split::kTrain, BadImages::kSkip);
  images.decode_all(nullptr, nullptr);
  ASSERT_EQ(images.rows(), whole.rows() - 2);
  ASSERT_EQ(images.skipped().size(), 2u);
  EXPECT_EQ(images.skipped()[0].id, id(Split::kTrain, 4));
  EXPECT_THAT(images.skipped()[1].reason, HasSubstr("a GIF image"));
  const auto [left, left_pixels] = read(images, 3);
  std::vector<std::int64_t> expected;
  for (const auto row : rows) {
    if (row != 4 && row != 11) expected.push_back(row);
  }
  EXPECT_EQ(left, expected);
  EXPECT_TRUE(at::equal(left_pixels, pixels.index_select(0, at::tensor(expected, at::kLong))));
  EXPECT_EQ(read(images, 3).first, expected);  // in every epoch

  const auto said = describe_skipped(images.skipped(), 1);
  EXPECT_EQ(said["count"], 2);
  EXPECT_EQ(said["first"].size(), 1u);
  EXPECT_EQ(said["first"][0]["image"], id(Split::kTrain, 4));
}

TEST_F(BadImageTest, AnImageThatGoesBadLaterIsAnError) {
  auto images = source(Split::kTrain, BadImages::kSkip);
  images.decode_all(nullptr, nullptr);
  write_bytes(file(Split::kTrain, 4), "");
  error_of(Code::kDataCorruption, [&] { read(images, 3); });
}

TEST_F(BadImageTest, AFileThatIsGoneIsNotSkipped) {
  fs::remove(file(Split::kTrain, 4));
  auto images = source(Split::kTrain, BadImages::kSkip);
  error_of(Code::kNotFound, [&] { images.decode_all(nullptr, nullptr); });
}

TEST_F(BadImageTest, AClassWithoutTrainingImagesIsAnError) {
  const auto& examples = data_->examples(Split::kTrain);
  for (std::size_t row = 0; row < examples.size(); ++row) {
    if (examples[row].label == 1) write_bytes(file(Split::kTrain, static_cast<std::int64_t>(row)), "x");
  }
  auto train = source(Split::kTrain, BadImages::kSkip);
  EXPECT_THAT(error_of(Code::kDataCorruption, [&] { train.decode_all(nullptr, nullptr); }),
              HasSubstr("no training image of class 'b' can be read"));
  for (std::size_t row = 0; row < data_->examples(Split::kTest).size(); ++row) {
    write_bytes(file(Split::kTest, static_cast<std::int64_t>(row)), "x");
  }
  auto test = source(Split::kTest, BadImages::kSkip);
  EXPECT_THAT(error_of(Code::kDataCorruption, [&] { test.decode_all(nullptr, nullptr); }),
              HasSubstr("no test image can be read"));
}

TEST_F(BadImageTest, DecodingStopsOnRequest) {
  const std::atomic<bool> stop = true;
  auto images = source(Split::kTrain, BadImages::kSkip);
  error_of(Code::kCancelled, [&] { images.decode_all(&stop, nullptr); });
}

TEST(BadImagesOption, TakesTwoWords) {
  EXPECT_EQ(parse_bad_images("stop"), BadImages::kStop);
  EXPECT_EQ(parse_bad_images("skip"), BadImages::kSkip);
  EXPECT_THAT(error_of(Code::kInvalidArgument, [] { parse_bad_images("ignore"); }), HasSubstr("got 'ignore'"));
}

}  // namespace
}  // namespace recast
