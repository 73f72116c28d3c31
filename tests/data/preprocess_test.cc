#include "recast/data/preprocess.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "format/expect_error.h"

namespace recast {
namespace {

using ::testing::HasSubstr;

TEST(EvaluationPixels, KeepsTheMiddleOfALongImage) {
  // 8 x 20 at size 8: no resize, columns 6 to 13 stay.
  const auto image = at::arange(20).to(at::kByte).expand({3, 8, 20});
  const auto pixels = evaluation_pixels(image, {.size_px = 8});
  EXPECT_TRUE(at::equal(pixels, image.narrow(2, 6, 8)));
  EXPECT_TRUE(pixels.is_contiguous());
}

TEST(EvaluationPixels, RoundsHalfACropToTheEvenSide) {
  // Margins of 0.5 and 1.5 become 0 and 2, as Python rounds them.
  const auto five = at::arange(5).to(at::kByte).expand({3, 4, 5}),
             seven = at::arange(7).to(at::kByte).expand({3, 4, 7});
  EXPECT_EQ(evaluation_pixels(five, {.size_px = 4})[0][0][0].item<int>(), 0);
  EXPECT_EQ(evaluation_pixels(seven, {.size_px = 4})[0][0][0].item<int>(), 2);
}

TEST(EvaluationPixels, LeavesAPlainImagePlain) {
  for (const std::string interpolation : {"bicubic", "bilinear"}) {
    for (const double crop : {1.0, 0.875, 0.1}) {
      const auto pixels = evaluation_pixels(at::full({3, 37, 1001}, 201, at::kByte), {16, crop, interpolation});
      EXPECT_TRUE(pixels.eq(201).all().item<bool>());
    }
  }
}

TEST(EvaluationPixels, TakesTheNarrowestImageInLittleMemory) {
  EXPECT_EQ(evaluation_pixels(at::zeros({3, 1, 20000}, at::kByte), {}).sizes(), at::IntArrayRef({3, 224, 224}));
  EXPECT_EQ(evaluation_pixels(at::zeros({3, 20000, 1}, at::kByte), {}).sizes(), at::IntArrayRef({3, 224, 224}));
}

TEST(EvaluationPixels, RefusesWhatIsNoImage) {
  error_of(Code::kShapeMismatch, [] { evaluation_pixels(at::zeros({3, 8, 8}), {}); });
  error_of(Code::kShapeMismatch, [] { evaluation_pixels(at::zeros({1, 8, 8}, at::kByte), {}); });
  error_of(Code::kShapeMismatch, [] { evaluation_pixels(at::zeros({3, 0, 8}, at::kByte), {}); });
}

TEST(Preprocessing, SurvivesJson) {
  const Preprocessing p{98, 0.95, "bilinear", {0.5, 0.25, 0.125}, {0.5, 1, 2}};
  EXPECT_EQ(nlohmann::json::parse(nlohmann::json(p).dump()).get<Preprocessing>(), p);
}

TEST(Preprocessing, RefusesBadJsonByField) {
  const auto refused = [](const char* key, nlohmann::json value) {
    nlohmann::json j = Preprocessing{};
    j[key] = std::move(value);
    return error_of(Code::kDataCorruption, [&] { j.get<Preprocessing>(); });
  };
  EXPECT_THAT(refused("size_px", 0), HasSubstr("size_px must be 1 to 4096, got 0"));
  EXPECT_THAT(refused("crop_pct", 1.5), HasSubstr("crop_pct"));
  EXPECT_THAT(refused("interpolation", "nearest"), HasSubstr("bicubic or bilinear, got 'nearest'"));
  EXPECT_THAT(refused("std", {0, 1, 1}), HasSubstr("std must be above 0"));
  EXPECT_THAT(refused("mean", {0, 1}), HasSubstr("[preprocessing]"));
  EXPECT_THAT(refused("mean", {0, 1, 2, 3}), HasSubstr("three numbers"));
  EXPECT_THAT(refused("size_px", "224"), HasSubstr("[preprocessing]"));
  EXPECT_THAT(refused("size_px", 224.7), HasSubstr("got 224.7"));
  EXPECT_THAT(refused("size_px", 1e300), HasSubstr("size_px"));
  EXPECT_THAT(refused("size_px", true), HasSubstr("got true"));
  EXPECT_THAT(refused("crop_pct", true), HasSubstr("crop_pct must be a number"));
  EXPECT_THAT(refused("mean", {0, false, 0}), HasSubstr("mean must be a number"));
  EXPECT_THAT(refused("colour", 1), HasSubstr("'colour' is no key"));
  EXPECT_THAT(error_of(Code::kDataCorruption, [] { nlohmann::json::array().get<Preprocessing>(); }),
              HasSubstr("an object"));
  EXPECT_THAT(error_of(Code::kDataCorruption, [] { nlohmann::json::object().get<Preprocessing>(); }),
              HasSubstr("size_px"));
}

TEST(Normalise, IsScaledShiftedAndDivided) {
  const Preprocessing p{2, 1, "bicubic", {0.5, 0.25, 0}, {0.5, 1, 2}};
  const auto x = normalise(at::full({2, 3, 2, 2}, 255, at::kByte), p);
  EXPECT_EQ(x.scalar_type(), at::kFloat);
  for (const auto& [channel, value] : {std::pair{0, 1.0f}, {1, 0.75f}, {2, 0.5f}}) {
    EXPECT_TRUE(x.select(1, channel).eq(value).all().item<bool>());
  }
  error_of(Code::kShapeMismatch, [&] { normalise(at::zeros({3, 2, 2}, at::kByte), p); });
}

}  // namespace
}  // namespace recast
