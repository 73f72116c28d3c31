#include "recast/serve/model_name.h"

#include "format/expect_error.h"

namespace recast {
namespace {

using testing::HasSubstr;

std::string refused_name(std::string_view name, std::string_view version = "") {
  return error_of(Code::kInvalidArgument, [&] { parse_model_name(name, version); });
}

TEST(ModelName, HasBaseTaskAndVersionOrTag) {
  const auto expect = [](std::string_view name, std::string_view beside, const std::string& base,
                         const std::string& task, std::optional<std::int64_t> version, const std::string& tag) {
    EXPECT_EQ(parse_model_name(name, beside), (ModelName{false, base, task, version, tag})) << name << " " << beside;
  };
  expect("cars", "", "", "cars", {}, "");
  expect("cars:3", "", "", "cars", 3, "");
  expect("cars:best", "", "", "cars", {}, "best");
  expect("vit@cars", "", "vit", "cars", {}, "");
  expect("vit-s.16@cars_2:12", "", "vit-s.16", "cars_2", 12, "");
  expect("cars", "3", "", "cars", 3, "");
  expect("vit@cars", "best", "vit", "cars", {}, "best");
}

TEST(ModelName, IsWrittenAsItWasRead) {
  for (const char* name : {"recast", "cars", "cars:3", "cars:best", "vit@cars", "vit@cars:9223372036854775807",
                           "vit@recast", "vit@cars:2nd"}) {
    EXPECT_EQ(parse_model_name(name).text(), name);
  }
}

TEST(ModelName, RecastAloneIsTheModelOfMixedRows) {
  EXPECT_TRUE(parse_model_name("recast").mixed);
  EXPECT_FALSE(parse_model_name("vit@recast").mixed);
  EXPECT_FALSE(parse_model_name("Recast").mixed);
  const auto unknown = [](std::string_view name, std::string_view version) {
    return error_of(Code::kNotFound, [&] { parse_model_name(name, version); });
  };
  EXPECT_THAT(unknown("recast", "1"), HasSubstr("has no versions"));
  EXPECT_THAT(unknown("recast:best", ""), HasSubstr("has no versions"));
}

TEST(ModelName, MayNotAskForTwoVersions) {
  EXPECT_EQ(parse_model_name("cars:3", "3").version, 3);
  EXPECT_THAT(refused_name("cars:3", "4"), HasSubstr("asks for version '3', and '4' was asked for beside it"));
  EXPECT_THAT(refused_name("cars:best", "3"), HasSubstr("asks for version 'best'"));
}

TEST(ModelName, RefusesVersionsThatThereCannotBe) {
  for (const char* version : {"0", "03", "00", "9223372036854775808", "99999999999999999999999"}) {
    EXPECT_THAT(refused_name("cars", version), HasSubstr("is no version; versions are 1, 2")) << version;
  }
  for (const char* version : {"+1", "1 ", " ", "a/b", "..", "con", "b:c"}) {
    EXPECT_THAT(refused_name("cars", version), HasSubstr("neither a version nor a tag")) << version;
  }
  EXPECT_THAT(refused_name("cars:"), HasSubstr("no version follows the colon"));
}

TEST(ModelName, RefusesWhatLedOthersOutOfTheirFolders) {
  using namespace std::literals;
  for (const std::string& name : {""s,
                                  "."s,
                                  ".."s,
                                  ".hidden"s,
                                  "../x"s,
                                  "..\\x"s,
                                  "/etc/passwd"s,
                                  "C:\\x"s,
                                  "a/b"s,
                                  "a\\b"s,
                                  "%2e%2e%2f"s,
                                  "%252e"s,
                                  "a%00"s,
                                  "a\0b"s,
                                  "a\nb"s,
                                  "a b"s,
                                  "con"s,
                                  "NUL.txt"s,
                                  "com1"s,
                                  "\u202e"
                                  "abc"s,
                                  "caf\u00e9"s,
                                  "cafe\u0301"s,
                                  "a@b@c"s,
                                  "@a"s,
                                  "a@"s,
                                  ":1"s,
                                  "../a@b"s,
                                  "a@../b"s,
                                  "a:b:c"s,
                                  "a@b:../c"s,
                                  std::string(300, 'n'),
                                  std::string(129, 'n')}) {
    EXPECT_FALSE(refused_name(name).empty()) << name;
  }
  EXPECT_NO_THROW(parse_model_name(std::string(128, 'n')));
}

TEST(NameModel, RefusesABodyThatNamesAnother) {
  InferenceRequest request;
  name_model(request, "cars", "2");
  EXPECT_EQ(request.model, "cars");
  EXPECT_EQ(request.version, "2");
  EXPECT_NO_THROW(name_model(request, "cars", ""));
  EXPECT_EQ(request.version, "2");
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { name_model(request, "pets", ""); }),
              HasSubstr("model_name: is 'cars', but 'pets' was addressed"));
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { name_model(request, "cars", "3"); }),
              HasSubstr("model_version: is '2', but '3' was addressed"));
}

TEST(PathSegment, IsDecodedOnce) {
  EXPECT_EQ(decode_path_segment("cars"), "cars");
  EXPECT_EQ(decode_path_segment("cars%3A3"), "cars:3");
  EXPECT_EQ(decode_path_segment("vit%40cars%3abest"), "vit@cars:best");
  EXPECT_EQ(decode_path_segment("vit@cars:3"), "vit@cars:3");
  EXPECT_EQ(decode_path_segment("a+b"), "a+b");
  EXPECT_EQ(decode_path_segment("caf%C3%A9"), "caf\u00e9");
  // Twice encoded: what comes out is no path, and no name either.
  EXPECT_EQ(decode_path_segment("%252e%252e%252f"), "%2e%2e%2f");
  EXPECT_FALSE(refused_name(decode_path_segment("%252e%252e%252f")).empty());
}

TEST(PathSegment, RefusesWhatIsNoName) {
  using namespace std::literals;
  for (const std::string& segment :
       {""s,      "."s,    ".."s,        "%2e"s,   "%2e%2e"s,       ".%2E"s,      "a%2fb"s,     "a%2Fb"s,
        "a%5cb"s, "%00"s,  "a%00b"s,     "a%0ab"s, "a%7f"s,         "%"s,         "%2"s,        "a%2"s,
        "%zz"s,   "%2g"s,  "% 2"s,       "%+2"s,   "a b"s,          "a/b"s,       "a?b"s,       "a#b"s,
        "a\"b"s,  "a\0b"s, "caf\u00e9"s, "%ff"s,   "%c0%ae%c0%ae"s, "%ed%a0%80"s, "%e2%80%ae"s, "%c2%85"s}) {
    const std::string said = error_of(Code::kInvalidArgument, [&] { decode_path_segment(segment); });
    EXPECT_THAT(said, HasSubstr("[url]")) << segment;
  }
  EXPECT_THAT(error_of(Code::kExhausted, [] { decode_path_segment(std::string(1025, 'a')); }),
              HasSubstr("1025 bytes; at most 1024"));
}

}  // namespace
}  // namespace recast
