// Expressions from outside: Python's answers, refusals by place, and no expression that takes long.
#include "recast/format/pattern.h"

#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>

#include "format/expect_error.h"
#include "format/python_tool.h"
#include "format/temporary_folder.h"
#include "recast/base/key.h"

namespace recast {
namespace {

bool matches(const std::string& expression, const std::string& text) {
  return Pattern(expression, "test").matches(text);
}

TEST(Pattern, MatchesAsPythonDoes) {
  EXPECT_TRUE(matches(R"(.*\.(q|v)_proj)", "vit.layers.11.attention.q_proj"));
  EXPECT_FALSE(matches(R"(.*\.(q|v)_proj)", "vit.layers.11.attention.k_proj"));
  EXPECT_TRUE(matches(R"(blocks\.\d+\.mlp\.fc[12])", "blocks.10.mlp.fc2"));
  EXPECT_FALSE(matches(R"(blocks\.\d+\.mlp\.fc[12])", "blocks.10.mlp.fc3"));
  EXPECT_FALSE(matches(R"(blocks\.\d+)", "blocks.1.mlp")) << "the whole text";
  EXPECT_TRUE(matches("(.*\\.)?(^vit.layers.0)$", "vit.layers.0"));
  EXPECT_FALSE(matches("(.*\\.)?(^layers.0)$", "vit.layers.0"));
  EXPECT_TRUE(matches("a{2,3}b?c*", "aaacc"));
  EXPECT_FALSE(matches("a{2,3}b?c*", "abc"));
  EXPECT_TRUE(matches("a{0}|(b|)", ""));
  EXPECT_TRUE(matches("[^a-c\\d]+", "xyz"));
  EXPECT_FALSE(matches("[^a-c\\d]+", "xy1"));
  EXPECT_TRUE(matches("[]a-]+", "]-a"));
  EXPECT_TRUE(matches("", ""));
  EXPECT_FALSE(matches("", "a"));
  EXPECT_FALSE(matches(".", "\xc3\xa9")) << "bytes beyond ASCII match nothing";
}

/// Expressions and texts out of a small alphabet, so that many match.
std::string drawn(const Key& key, const std::string& signs, std::uint64_t longest) {
  std::string text;
  for (std::uint64_t i = 0; i < key.fold("length").below(longest + 1); ++i)
    text += signs[key.fold("sign", i).below(signs.size())];
  return text;
}

TEST(Pattern, AgreesWithPythonOnThousandsOfExpressions) {
  RECAST_NEED_PYTHON("json");
  nlohmann::json cases = nlohmann::json::array();
  std::int64_t matched = 0;
  for (std::uint64_t i = 0; cases.size() < 12000; ++i) {
    const Key key = Key(7).fold("case", i);
    const std::string expression = drawn(key.fold("expression"), "aab.*+?|()[]^$\\d{2,}", 12);
    try {
      const Pattern pattern(expression, "test");
      for (std::uint64_t n = 0; n < 8; ++n) {
        const std::string text = drawn(key.fold("text", n), "aab1.", 5);
        cases.push_back({expression, text, pattern.matches(text)});
        matched += pattern.matches(text) ? 1 : 0;
      }
    } catch (const Error&) {  // what recast alone refuses is no disagreement
    }
  }
  EXPECT_GT(matched, 800) << "nothing matches: the test proves nothing";
  const TemporaryFolder folder;
  std::ofstream(folder / "cases.json") << cases.dump();
  const Outcome outcome =
      run_program({python_path(), "-W", "ignore", "-c",
                   "import json, re, sys\n"
                   "bad = [c for c in json.load(open(sys.argv[1])) if bool(re.fullmatch(c[0], c[1])) != c[2]]\n"
                   "sys.exit(str(bad[:5]) if bad else 0)",
                   (folder / "cases.json").string()});
  EXPECT_EQ(outcome.status, 0) << outcome.text;
}

TEST(Pattern, RefusesWhatItDoesNotUnderstandByPlace) {
  for (const char* unsupported : {"(?=a)", "(?!a)b", "(?i)a", "(?P<n>a)", "(a)\\1", "\\bword", "a**", "a*+", "\xc3\xa9",
                                  "a{x}", "[a-\\d]", "[b-a]"}) {
    const std::string message = error_of(Code::kUnsupported, [&] { Pattern(unsupported, "some file"); });
    EXPECT_NE(message.find("at byte"), message.npos) << message;
    EXPECT_NE(message.find("some file"), message.npos) << message;
  }
  for (const char* broken : {"(a", "a)", "*a", "^*", "[a", "a\\", "a|*", "a{3,2}"})
    error_of(Code::kDataCorruption, [&] { Pattern(broken, "test"); });
}

TEST(Pattern, BombsAreRefusedOrHarmless) {
  const auto start = std::chrono::steady_clock::now();
  error_of(Code::kExhausted, [] { Pattern("((((a{1000}){1000}){1000}){1000})", "test"); });
  error_of(Code::kExhausted, [] { Pattern("(((){1000}){1000}){1000}", "test"); });
  error_of(Code::kExhausted, [] { Pattern("a{99999999999999999999}", "test"); });
  error_of(Code::kExhausted, [] { Pattern(std::string(1025, 'a'), "test"); });
  error_of(Code::kExhausted, [] { Pattern(std::string(200, '(') + std::string(200, ')'), "test"); });
  const std::string text(4000, 'a');
  for (const char* bomb : {"(a+)+b", "(a|aa)+$b", "(.*)*x", "(a*)*(a*)*(a*)*b", "(a?){200}a{200}b", "((a|b)*|(ab)*)*c"})
    EXPECT_FALSE(matches(bomb, text)) << bomb;
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

}  // namespace
}  // namespace recast
