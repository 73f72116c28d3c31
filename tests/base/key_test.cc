#include "recast/base/key.h"

#include <gtest/gtest.h>

#include <set>

namespace recast {
namespace {

TEST(Key, MatchesThePublishedPhiloxVectors) {
  // Known answers of Random123 for philox4x32-10: counter 0 and key 0.
  const auto w = Key(0).block(0);
  EXPECT_EQ(w[0], 0x6627e8d5u);
  EXPECT_EQ(w[1], 0xe169c58du);
  EXPECT_EQ(w[2], 0xbc57ac4cu);
  EXPECT_EQ(w[3], 0x9b00dbd8u);
}

TEST(Key, GivesTheSameDrawsWhateverTheOrder) {
  const Key key(42);
  const at::Tensor a = key.fold("a").normal({5});
  key.fold("b").normal({7});
  EXPECT_TRUE(a.equal(key.fold("a").normal({5})));
  EXPECT_FALSE(a.equal(key.fold("b").normal({5})));
  EXPECT_TRUE(key.normal({3}).equal(key.normal({9}).slice(0, 0, 3)));
}

TEST(Key, SeparatesNamesNumbersAndNesting) {
  const Key key(7);
  std::set<std::uint64_t> seen;
  for (const char* name : {"", "a", "b", "ab", "abcdefgh", "abcdefghi"})
    for (std::uint64_t n = 0; n < 100; ++n) seen.insert(key.fold(name, n).bits());
  EXPECT_EQ(seen.size(), 600u);
  EXPECT_NE(key.fold("a").fold("b").bits(), key.fold("ab").bits());
}

TEST(Key, DrawsHaveTheRightMoments) {
  const at::Tensor n = Key(1).normal({1'000'000}).to(at::kDouble);
  EXPECT_NEAR(n.mean().item<double>(), 0, 0.005);
  EXPECT_NEAR(n.var().item<double>(), 1, 0.005);
  const at::Tensor u = Key(2).uniform({1'000'000}).to(at::kDouble);
  EXPECT_NEAR(u.mean().item<double>(), 0.5, 0.002);
  EXPECT_GE(u.min().item<double>(), 0);
  EXPECT_LT(u.max().item<double>(), 1);
}

TEST(Key, PermutationHoldsEachNumberOnce) {
  std::vector<std::int64_t> p = Key(3).permutation(1000);
  EXPECT_NE(p, Key(4).permutation(1000));
  EXPECT_EQ(std::set<std::int64_t>(p.begin(), p.end()).size(), 1000u);
}

}  // namespace
}  // namespace recast
