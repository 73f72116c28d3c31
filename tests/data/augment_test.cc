#include "recast/data/augment.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "format/expect_error.h"

namespace recast {
namespace {

at::Tensor picture() { return Key(3).uniform({3, 32, 32}).mul(256).to(at::kByte); }

TEST(Augment, ChangesNothingByDefault) {
  EXPECT_TRUE(at::equal(augment(picture(), Augmentation::none(), Key(1)), picture()));
}

TEST(Augment, IsAFunctionOfTheKey) {
  const auto a = Augmentation::paper();
  EXPECT_TRUE(at::equal(augment(picture(), a, Key(1)), augment(picture(), a, Key(1))));
  EXPECT_FALSE(at::equal(augment(picture(), a, Key(1)), augment(picture(), a, Key(2))));
}

TEST(Augment, DoesNotWriteItsInput) {
  const auto x = picture();
  for (int i = 0; i < 8; ++i) augment(x, Augmentation::paper(), Key(1).fold("i", i));
  EXPECT_TRUE(at::equal(x, picture()));
}

TEST(Augment, FlipsAboutHalfOfTheImages) {
  int flipped = 0;
  const auto x = picture(), mirror = flip_horizontally(x);
  for (int i = 0; i < 1000; ++i) {
    flipped += at::equal(augment(x, Augmentation::flips(), Key(5).fold("row", i)), mirror);
  }
  EXPECT_NEAR(flipped, 500, 64);  // four standard deviations
}

TEST(Augment, PaperHasTheFiguresOfThePaper) {
  const auto a = Augmentation::named("paper");
  EXPECT_EQ(a, (Augmentation{true, 0.4, 0.4, 0.4, 0.2, 10, 0.1, 0.9, 1.1}));
  EXPECT_EQ(Augmentation::named("flips"), Augmentation::flips());
  EXPECT_THAT(error_of(Code::kInvalidArgument, [] { Augmentation::named("papr"); }), testing::HasSubstr("'paper'"));
}

TEST(AugmentSteps, FactorOneAndNoMoveChangeNothing) {
  const auto x = picture();
  EXPECT_TRUE(at::equal(adjust_brightness(x, 1), x));
  EXPECT_TRUE(at::equal(adjust_contrast(x, 1), x));
  EXPECT_TRUE(at::equal(adjust_saturation(x, 1), x));
  EXPECT_TRUE(at::equal(affine(x, 0, 0, 0, 1), x));
  EXPECT_TRUE(at::equal(flip_horizontally(flip_horizontally(x)), x));
}

TEST(AugmentSteps, AffineMovesTurnsAndGrows) {
  auto x = at::zeros({3, 9, 9}, at::kByte);
  x.select(1, 4).select(1, 6).fill_(200);  // two right of the centre
  const auto lit = [](const at::Tensor& t) { return t[0].nonzero()[0]; };
  EXPECT_TRUE(at::equal(lit(affine(x, 0, 1, -3, 1)), at::tensor({1, 7}, at::kLong)));
  EXPECT_TRUE(at::equal(lit(affine(x, 90, 0, 0, 1)), at::tensor({6, 4}, at::kLong)));  // clockwise: now below
  EXPECT_GT(affine(x, 0, 0, 0, 2).ne(0).sum().item<int>(), 3);
}

TEST(AugmentSteps, RefuseBadArguments) {
  error_of(Code::kShapeMismatch, [] { augment(at::zeros({3, 4, 4}), Augmentation::paper(), Key(1)); });
  error_of(Code::kInvalidArgument, [] { adjust_hue(picture(), 0.6); });
  error_of(Code::kInvalidArgument, [] { affine(picture(), 0, 0, 0, 0); });
  error_of(Code::kInvalidArgument, [] { adjust_brightness(picture(), std::nan("")); });
}

}  // namespace
}  // namespace recast
