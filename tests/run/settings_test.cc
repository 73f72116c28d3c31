#include "recast/run/settings.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "format/expect_error.h"

namespace recast {
namespace {

using testing::HasSubstr;

std::string refused(Code code, const std::string& text) {
  return error_of(code, [&] { parse_settings(text, "x.yaml"); });
}

TEST(Settings, AreKeysWithOneValueOrAList) {
  const Settings expected{{"task", {"pets"}}, {"seeds", {"1", "2"}}, {"none", {}}};
  EXPECT_EQ(parse_settings("task: pets\nseeds: [1, 2]\nnone: []\n", "x.yaml"), expected);
  EXPECT_EQ(parse_settings(settings_yaml(expected), "x.yaml"), expected);
  EXPECT_EQ(parse_settings("", "x.yaml"), Settings());
}

TEST(Settings, KeepTextsThatYamlWouldTakeForOtherThings) {
  for (const char* text :
       {"",  "~",    "null",       "true", "- x",      "a: b",         "#", "&a",  "*a", "!t", " x ", "1e3", "\"",
        "'", "\x01", "two\nlines", "\t",   "\xc3\xa9", "\xe2\x80\xa8", "%", "---", "?",  "{}", "[]",  "\\"}) {
    const Settings settings{{"key", {text}}, {"list", {text, text}}};
    EXPECT_EQ(parse_settings(settings_yaml(settings), "written"), settings) << text;
  }
}

TEST(Settings, StayReadableWhereNothingNeedsQuotes) {
  EXPECT_EQ(settings_yaml({{"data", {"/pets/train"}}, {"rate", {"1e-3"}}, {"seeds", {"1", "2"}}, {"note", {"a b"}}}),
            "data: /pets/train\nrate: 1e-3\nseeds: [1, 2]\nnote: \"a b\"\n");
}

TEST(Settings, MustBeUtf8) {
  for (const std::string& text : {std::string("a: \xff"), std::string("a: b\0", 5), std::string("\xff\xfe\x61\0", 4)}) {
    EXPECT_THAT(refused(Code::kDataCorruption, text), HasSubstr("not UTF-8"));
  }
}

TEST(Settings, AreNotWrittenWhereAValueWouldNotComeBack) {
  const std::string message = error_of(Code::kUnsupported, [] {
    settings_yaml({{"task", {"pets"}}, {"data", {"/images/caf\xe9"}}});
  });
  EXPECT_THAT(message, HasSubstr("data '/images/caf\\xe9': its value is not UTF-8"));
}

TEST(Settings, RefuseEscapesThatTheYamlLibraryGetsWrong) {
  for (const char* text : {R"(a: "x\Ny")", R"(a: "\_")", R"("\N": a)", R"(a: [b, "\N"])", R"(a: "x\0")"}) {
    EXPECT_THAT(refused(Code::kUnsupported, text), HasSubstr("escape")) << text;
  }
  EXPECT_EQ(parse_settings(R"(a: "\u0085\u00a0")", "x.yaml"), (Settings{{"a", {"\xc2\x85\xc2\xa0"}}}));
}

TEST(Settings, RefuseTagsNestingAndKeysGivenTwice) {
  EXPECT_THAT(refused(Code::kInvalidArgument, "a: !!python/object:os.system x"), HasSubstr("'a' must be a value"));
  EXPECT_THAT(refused(Code::kInvalidArgument, "a: !!python/object:os.system [x]"), HasSubstr("'a' has the tag"));
  EXPECT_THAT(refused(Code::kInvalidArgument, "!!set {a: b}"), HasSubstr("the file' has the tag"));
  EXPECT_THAT(refused(Code::kInvalidArgument, "a: {b: c}"), HasSubstr("'a'"));
  EXPECT_THAT(refused(Code::kInvalidArgument, "a: 1\na: 2"), HasSubstr("'a' twice"));
  EXPECT_THAT(refused(Code::kInvalidArgument, std::string(129, 'k') + ": 1"), HasSubstr("at most 128"));
  EXPECT_THAT(refused(Code::kInvalidArgument, "- a"), HasSubstr("key: value"));
  EXPECT_THAT(refused(Code::kDataCorruption, "a: [1, 2\n"), HasSubstr("not YAML at line"));
}

TEST(Settings, RefuseASecondDocument) {
  EXPECT_THAT(refused(Code::kInvalidArgument, "a: 1\n---\nb: 2\n"), HasSubstr("line 2 begins a second document"));
  EXPECT_EQ(parse_settings("---\na: b\n...\n", "x.yaml"), (Settings{{"a", {"b"}}}));
}

// The YAML library takes each for documents without end.
TEST(Settings, RefuseACommaInPlaceOfADocumentBeforeTheMemoryIsFull) {
  for (const char* text : {",", ", a", ", taska: 1\na: 2- a\n", "--- ,", "... ,", "%YAML 1.2\n--- ,", "[a] ,",
                           "{a: b} ,", "\"a\" ,", "- a\n,", "-\n,", "&a ,", "!t ,"}) {
    EXPECT_THAT(refused(Code::kInvalidArgument, text), HasSubstr("belongs to none")) << text;
  }
  EXPECT_THAT(refused(Code::kInvalidArgument, "a: 1\n---\n\n,"), HasSubstr("line 2 begins"));
}

TEST(Settings, RefuseMoreKeysAndValuesThanAnyFileHas) {
  std::string keys, aliases = "a: &a [x";
  for (int i = 0; i < 100'000; ++i) keys += "?\n";
  EXPECT_THAT(refused(Code::kExhausted, keys), HasSubstr("keys and values"));
  for (int i = 0; i < 5'000; ++i) aliases += ", x";
  aliases += "]\n";
  for (int i = 0; i < 5'000; ++i) aliases += fmt::format("k{}: *a\n", i);
  EXPECT_THAT(refused(Code::kExhausted, aliases), HasSubstr("values"));
}

TEST(Settings, RefuseDeepNestingWithoutRunningOutOfStack) {
  refused(Code::kDataCorruption, std::string(100'000, '['));
  refused(Code::kDataCorruption, std::string(100'000, '{'));
}

}  // namespace
}  // namespace recast
