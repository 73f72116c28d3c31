#include "recast/run/settings_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "format/expect_error.h"

namespace recast {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string refused_tree(Code code, const std::string& text) {
  return error_of(code, [&] { parse_settings_tree(text, "x.yaml"); });
}

TEST(SettingsTree, KeepsValuesListsAndMapsInTheirOrder) {
  const SettingsTree tree = parse_settings_tree("b: 1\na:\n  y: [2, 3]\n  x: {z: ~}\nn:\n", "x.yaml");
  EXPECT_THAT(tree.keys(), ElementsAre("b", "a", "n"));
  EXPECT_EQ(tree.find("b")->value, "1");
  EXPECT_THAT(tree.find("a")->find("y")->list, ElementsAre("2", "3"));
  EXPECT_TRUE(tree.find("a")->find("x")->find("z")->map.empty());
  EXPECT_TRUE(tree.find("n")->map.empty());
  EXPECT_EQ(tree.find("c"), nullptr);
  EXPECT_EQ(settings_yaml(tree), "b: 1\na:\n  y: [2, 3]\n  x:\n    z: {}\nn: {}\n");
  EXPECT_EQ(parse_settings_tree(settings_yaml(tree), "written"), tree);
  EXPECT_TRUE(parse_settings_tree("", "x.yaml").map.empty());
}

TEST(SettingsTree, ReadsBackTextsThatYamlWouldTakeForOtherThings) {
  for (const char* text :
       {"", "~", "true", "- x", "a: b", "#", "*a", "!t", " x ", "two\nlines", "{}", "[]", "people/*"}) {
    SettingsTree tree;
    tree.map.emplace_back("value", SettingsTree{SettingsTree::Kind::kValue, text, {}, {}});
    tree.map.emplace_back(text, SettingsTree{SettingsTree::Kind::kList, "", {text, text}, {}});
    EXPECT_EQ(parse_settings_tree(settings_yaml(tree), "written"), tree) << text;
  }
}

TEST(SettingsTree, RefusesWhatIsNoTreeOfTexts) {
  EXPECT_THAT(refused_tree(Code::kInvalidArgument, "a: 1\na: 2"), HasSubstr("'a' twice"));
  EXPECT_THAT(refused_tree(Code::kInvalidArgument, "a: [[1]]"), HasSubstr("'a' must be a value"));
  EXPECT_THAT(refused_tree(Code::kInvalidArgument, "a: !!python/object:os.system x"), HasSubstr("'a' must be a value"));
  EXPECT_THAT(refused_tree(Code::kInvalidArgument, "a: !!python/object:os.system {b: c}"),
              HasSubstr("'a' has the tag"));
  EXPECT_THAT(refused_tree(Code::kInvalidArgument, "a: {b: {c: {d: {e: {f: 1}}}}}"), HasSubstr("deeper than 6"));
  EXPECT_THAT(refused_tree(Code::kDataCorruption, "a: [1\nb: 2"), HasSubstr("not YAML at line"));
  EXPECT_THAT(refused_tree(Code::kDataCorruption, "a: \xff"), HasSubstr("UTF-8"));
}

TEST(SettingsTree, BoundsWhatAnchorsBlowUp) {
  std::string text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 6; ++i) {
    text += fmt::format("a{}: &a{}\n", i, i);
    for (int j = 0; j < 12; ++j) text += fmt::format("  k{}: *a{}\n", j, i - 1);
  }
  error_of(Code::kExhausted, [&] { parse_settings_tree(text, "x.yaml"); });
}

}  // namespace
}  // namespace recast
