#include "recast/format/canonical_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "format/expect_error.h"
#include "recast/format/printable.h"

namespace recast {
namespace {

using testing::HasSubstr;

TEST(CanonicalJson, SortsKeysAndLeavesNoSpace) {
  const nlohmann::json value = parse_json(R"( { "b" : [1, 2.5, null], "a" : {"z": true, "y": "ä"} } )", "text");
  EXPECT_EQ(canonical_json(value), R"({"a":{"y":"ä","z":true},"b":[1,2.5,null]})");
}

TEST(CanonicalJson, WritesDoublesThatReadBackExactly) {
  for (const double value : {0.1, 1e-6, 1.0 / 3, 5e-324, 1.7976931348623157e308, -0.0}) {
    EXPECT_EQ(parse_json(canonical_json(value), "text").get<double>(), value);
  }
}

TEST(CanonicalJson, RefusesWhatJsonCannotSay) {
  EXPECT_THAT(error_of(Code::kInvalidArgument,
                       [] {
                         canonical_json({1.0, std::numeric_limits<double>::quiet_NaN()});
                       }),
              HasSubstr("NaN"));
  EXPECT_THAT(error_of(Code::kInvalidArgument, [] { canonical_json({{"a", "\xff"}}); }), HasSubstr("UTF-8"));
}

TEST(ParseJson, RefusesAKeyGivenTwiceAtAnyDepth) {
  const auto call = [] { parse_json(R"([{"x":{"k":1,"l":2,"k":3}}])", "config.json"); };
  EXPECT_THAT(error_of(Code::kDataCorruption, call), HasSubstr("config.json: the key \"k\" is given twice"));
}

TEST(ParseJson, AcceptsTheSameKeyInDifferentObjects) {
  EXPECT_EQ(parse_json(R"([{"k":1},{"k":{"k":2}}])", "text").size(), 2u);
}

TEST(ParseJson, LimitsDepthWithoutRecursion) {
  const auto nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_NO_THROW(parse_json(nested(64), "text"));
  EXPECT_THAT(error_of(Code::kDataCorruption, [&] { parse_json(nested(65), "text"); }), HasSubstr("64 levels"));
  error_of(Code::kDataCorruption, [&] { parse_json(std::string(50'000'000, '['), "text"); });
}

TEST(ParseJson, NamesTheByteOfTheFault) {
  EXPECT_THAT(error_of(Code::kDataCorruption, [] { parse_json("{\"a\": tru}", "f"); }), HasSubstr("at byte 10"));
}

TEST(ParseJson, KeepsMessagesShortAndPrintable) {
  const std::string message =
      error_of(Code::kDataCorruption, [] { parse_json("\"" + std::string(100'000, 'a') + "\n\x1b[31m", "f"); });
  EXPECT_LT(message.size(), 400u);
  EXPECT_EQ(message.find('\x1b'), message.npos);
}

TEST(ParseJson, RefusesMoreValuesThanTheLimit) {
  error_of(Code::kExhausted, [] { parse_json("[1,2,3]", "f", {.values = 3}); });
  EXPECT_NO_THROW(parse_json("[1,2,3]", "f", {.values = 4}));
}

TEST(Printable, EscapesWhatWouldDisturbALine) {
  EXPECT_EQ(printable("a\nb\x1b\x7f"), "a\\x0ab\\x1b\\x7f");
  EXPECT_EQ(printable("caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"), "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");
  EXPECT_EQ(printable("\xff\xc3"), "\\xff\\xc3");
  EXPECT_EQ(printable("\xc0\x80\xed\xa0\x80\xf5\x80\x80\x80"), "\\xc0\\x80\\xed\\xa0\\x80\\xf5\\x80\\x80\\x80");
  EXPECT_EQ(printable("\xe2\x80\xae"), "\\xe2\\x80\\xae");  // right-to-left override
  EXPECT_EQ(printable("abcdef", 3), "abc...");
  EXPECT_EQ(printable("abc", 3), "abc");
}

}  // namespace
}  // namespace recast
