// What a plug-in says of itself, and what it refuses.
#include <cctype>

#include "conformance/plug_cases.h"
#include "format/expect_error.h"

namespace recast {
namespace {

class Description : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Plugin, Description, testing::ValuesIn(plug_names()), case_name);

bool one_line(const std::string& text) { return !text.empty() && text.find('\n') == std::string::npos; }

/// Lower case, digits, and - or _ inside.
bool plain_name(const std::string& name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::islower(c) || std::isdigit(c) || c == '-' || c == '_';
  });
}

TEST_P(Description, IsComplete) {
  const MethodInfo& info = info_of(GetParam());
  EXPECT_TRUE(plain_name(info.name)) << info.name;
  EXPECT_TRUE(one_line(info.summary)) << "summary";
  EXPECT_LT(info.summary.size(), 120u) << "summary";
  EXPECT_TRUE(one_line(info.paper)) << "paper: an arXiv number, or - where there is none";
  EXPECT_FALSE(info.claims.empty()) << "claims";
  for (const OptionSpec& option : info.options) {
    EXPECT_TRUE(plain_name(option.name)) << option.name;
    EXPECT_TRUE(one_line(option.help)) << option.name << " has no help";
    EXPECT_NE(option.name, "as") << "taken by the alias";
  }
  std::set<std::string> families;
  for (const Family& family : info.families) {
    EXPECT_TRUE(plain_name(family.name)) << family.name;
    EXPECT_TRUE(families.insert(family.name).second) << family.name << " twice";
    EXPECT_FALSE(family.trains && (family.scope == Scope::kClient || family.scope == Scope::kLive))
        << family.name << " trains in a scope that no optimiser looks at";
  }
}

TEST_P(Description, TakesARoleAndKeepsIt) {
  const auto method = make_method(GetParam());
  const Roles roles = method->roles(), again = method->roles();
  EXPECT_TRUE(roles.weight || roles.branch || roles.head || roles.loss || roles.update || roles.batch);
  EXPECT_EQ(roles.weight, again.weight);
  EXPECT_EQ(roles.branch, again.branch);
  EXPECT_EQ(roles.head, again.head);
  EXPECT_EQ(roles.loss, again.loss);
  EXPECT_EQ(roles.update, again.update);
  EXPECT_EQ(roles.batch, again.batch);
}

TEST_P(Description, RefusesAnUnknownOptionWithTheNearest) {
  const MethodInfo& info = info_of(GetParam());
  const std::string text = error_of(Code::kInvalidArgument, [&] { info.make({{"no-such-option", "1"}}); });
  EXPECT_NE(text.find("[" + info.name + "]"), text.npos) << text;
  for (const OptionSpec& option : info.options) {
    const std::string message = error_of(Code::kInvalidArgument, [&] { info.make({{option.name + "x", "1"}}); });
    EXPECT_NE(message.find("did you mean '" + option.name + "'"), message.npos) << message;
  }
}

/// Texts that an option must refuse, as far as its range tells.
std::vector<std::string> bad_values(const OptionSpec& option) {
  std::vector<std::string> bad;
  if (option.type == "text") {
    for (const std::string& choice : option.choices) bad.push_back(choice + "x");
    if (!option.choices.empty()) bad.push_back("");
    return bad;
  }
  bad = {"", "abc", "1x", " "};
  if (option.type == "flag") return bad;
  bad.insert(bad.end(), {"nan", "inf", "-inf", "1e999"});
  if (option.type == "integer") bad.push_back("1.5");
  const std::size_t dots = option.range.find("..");
  auto beyond = [&](double limit, double step) {
    const double value = limit + step * std::max(1.0, std::abs(limit));
    bad.push_back(option.type == "integer" ? std::to_string(static_cast<std::int64_t>(value)) : option_text(value));
  };
  if (dots != std::string::npos) {
    beyond(std::stod(option.range.substr(0, dots)), -1);
    beyond(std::stod(option.range.substr(dots + 2)), 1);
  } else if (option.range.starts_with(">= ")) {
    beyond(std::stod(option.range.substr(3)), -1);
  } else if (option.range == "> 0") {
    bad.insert(bad.end(), {"0", "-1"});
  }
  return bad;
}

TEST_P(Description, RefusesValuesOutOfRange) {
  const MethodInfo& info = info_of(GetParam());
  for (const OptionSpec& option : info.options)
    for (const std::string& bad : bad_values(option)) {
      SCOPED_TRACE(option.name + " = '" + bad + "'");
      const std::string message = error_of(Code::kInvalidArgument, [&] { info.make({{option.name, bad}}); });
      EXPECT_NE(message.find(option.name), message.npos) << message;
    }
}

TEST_P(Description, TakesEveryDefaultItShows) {
  const MethodInfo& info = info_of(GetParam());
  for (const OptionSpec& option : info.options) EXPECT_NO_THROW(info.make({{option.name, option.default_text}}));
}

TEST(Registry, SuggestsTheNearestPlugin) {
  for (const std::string& name : plug_names()) {
    const std::string message = error_of(Code::kInvalidArgument, [&] { Registry::instance().find(name + "x"); });
    EXPECT_NE(message.find("did you mean"), message.npos) << message;
  }
}

}  // namespace
}  // namespace recast
