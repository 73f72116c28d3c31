#include "recast/base/statistics.h"

#include <gtest/gtest.h>

#include "format/expect_error.h"

namespace recast {
namespace {

// Expected figures: scipy.stats 1.17 (t.interval, ttest_1samp, binomtest and its Wilson interval).

TEST(Statistics, SpreadIsThatOfASampleWithStudentsInterval) {
  const Spread s = spread({0.8150, 0.8127, 0.8233});
  EXPECT_EQ(s.count, 3);
  EXPECT_NEAR(s.mean, 0.817, 1e-12);
  EXPECT_NEAR(s.deviation, 0.0055758407437802955, 1e-12);
  ASSERT_TRUE(s.interval95);
  EXPECT_NEAR(s.interval95->low, 0.8031488437336615, 1e-12);
  EXPECT_NEAR(s.interval95->high, 0.8308511562663387, 1e-12);
}

TEST(Statistics, OneRunHasNoInterval) {
  const Spread s = spread({0.5});
  EXPECT_EQ(s.mean, 0.5);
  EXPECT_EQ(s.deviation, 0);
  EXPECT_FALSE(s.interval95);
  EXPECT_FALSE(paired_t_p({0.5}));
}

TEST(Statistics, IntervalOfAShareIsWilsons) {
  EXPECT_NEAR(share_interval(0.97, 100).low, 0.9154806357094724, 1e-12);
  EXPECT_NEAR(share_interval(0.97, 100).high, 0.9897454759759611, 1e-12);
  EXPECT_NEAR(share_interval(0, 10).low, 0, 1e-15);
  EXPECT_NEAR(share_interval(0, 10).high, 0.27753279986288926, 1e-12);
  EXPECT_NEAR(share_interval(1, 10).high, 1, 1e-15);
}

TEST(Statistics, PairedTestLooksAtDifferences) {
  EXPECT_NEAR(paired_t_p({0.0273, 0.0323, 0.0060}).value(), 0.11333052594880906, 1e-12);
  EXPECT_EQ(paired_t_p({0.0, 0.0}), 1.0);
  EXPECT_EQ(paired_t_p({0.25, 0.25}), 0.0);
}

TEST(Statistics, McNemarIsExactAndSymmetric) {
  EXPECT_NEAR(mcnemar_p(3, 12), 0.03515625, 1e-12);
  EXPECT_NEAR(mcnemar_p(170, 130), 0.02418198247326274, 1e-10);
  EXPECT_EQ(mcnemar_p(12, 3), mcnemar_p(3, 12));
  EXPECT_EQ(mcnemar_p(0, 0), 1);
  EXPECT_EQ(mcnemar_p(7, 7), 1);
}

TEST(Statistics, RefusesCountsThatCannotBe) {
  error_of(Code::kInvalidArgument, [] { spread({}); });
  error_of(Code::kInvalidArgument, [] { share_interval(3, 2); });
  error_of(Code::kInvalidArgument, [] { share_interval(0, 0); });
  error_of(Code::kInvalidArgument, [] { mcnemar_p(-1, 0); });
}

}  // namespace
}  // namespace recast
