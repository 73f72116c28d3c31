#include "recast/format/positions.h"

#include <gtest/gtest.h>

#include <random>

#include "format/expect_error.h"

namespace recast {
namespace {

using Bytes = std::vector<std::uint8_t>;
using Places = std::vector<std::int64_t>;

TEST(Positions, AreOneBitEachWhereManyAreSet) {
  EXPECT_EQ(encode_positions(Places{0, 3, 9}, 10), (Bytes{0b1001, 0b10}));
  EXPECT_EQ(decode_positions(Bytes{0b1001, 0b10}, 10), (Places{0, 3, 9}));
}

TEST(Positions, AreGapsWhereFewAreSet) {
  // 5 before the first; 300 - 6 = 294 = 2 * 128 + 38 before the second.
  EXPECT_EQ(encode_positions(Places{5, 300}, 1000), (Bytes{5, 38 | 128, 2}));
  EXPECT_EQ(decode_positions(Bytes{5, 38 | 128, 2}, 1000), (Places{5, 300}));
}

TEST(Positions, NoneTakesNoByte) {
  EXPECT_EQ(encode_positions(Places{}, 1000), Bytes{});
  EXPECT_EQ(decode_positions(Bytes{}, 1000), Places{});
  EXPECT_EQ(decode_positions(Bytes{}, 0), Places{});
}

TEST(Positions, ComeBackFromTheShorterForm) {
  std::mt19937 draw(7);
  for (const std::int64_t total : {1, 7, 8, 9, 64, 1000, 70000})
    for (const double share : {0.0, 0.001, 0.01, 0.125, 0.25, 0.5, 1.0}) {
      Places places;
      for (std::int64_t p = 0; p < total; ++p)
        if (std::bernoulli_distribution(share)(draw)) places.push_back(p);
      const Bytes bytes = encode_positions(places, total);
      EXPECT_EQ(decode_positions(bytes, total), places) << total << " " << share;
      EXPECT_LE(bytes.size(), static_cast<std::size_t>((total + 7) / 8)) << "never longer than the bits";
      if (share > 0 && share <= 0.01) {
        EXPECT_LE(bytes.size(), 2 * places.size()) << "never longer than two bytes a position";
      }
    }
}

TEST(Positions, RefuseWhatNobodyWrote) {
  const auto refused = [](const Bytes& bytes, std::int64_t total) {
    return error_of(Code::kDataCorruption, [&] { decode_positions(bytes, total); });
  };
  refused({1}, 0);
  refused({0, 0, 0}, 10);         // one byte more than the bits take
  refused({0, 0b100}, 10);        // bit 10 of 10
  refused({100}, 10);             // beyond the end
  refused({20, 9}, 30);           // 20, and then 30 of 30
  refused({128}, 1000);           // a gap that is cut
  refused({128, 0}, 1000);        // 0 in two bytes
  refused(Bytes(12, 255), 1000);  // a gap without end
}

/// Whatever the bytes, they are refused or stand for positions that come back.
TEST(Positions, AnyBytesAreRefusedOrAscend) {
  std::mt19937 draw(11);
  std::int64_t accepted = 0;
  for (int i = 0; i < 20000; ++i) {
    const std::int64_t total = std::uniform_int_distribution<std::int64_t>(0, 200)(draw);
    Bytes bytes(std::uniform_int_distribution<std::size_t>(0, 26)(draw));
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(draw() & (i % 2 ? 255 : 15));
    Places places;
    try {
      places = decode_positions(bytes, total);
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), Code::kDataCorruption) << error.what();
      continue;
    }
    ++accepted;
    for (std::size_t k = 0; k < places.size(); ++k) {
      ASSERT_GE(places[k], k == 0 ? 0 : places[k - 1] + 1);
      ASSERT_LT(places[k], total);
    }
    ASSERT_EQ(decode_positions(encode_positions(places, total), total), places);
  }
  EXPECT_GT(accepted, 100);
}

}  // namespace
}  // namespace recast
