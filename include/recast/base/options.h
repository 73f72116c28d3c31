#pragma once
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "recast/base/error.h"

namespace recast {

/// Options as text, the way they come from a flag, a config file or a stored recipe: {"rank", "4"}.
using OptionTexts = std::map<std::string, std::string>;

/// One declared option: it becomes a flag key, a config key and a row of the generated docs.
struct OptionSpec {
  std::string name, type, default_text, range, help;  ///< type: integer | number | flag | text
  std::vector<std::string> choices;                   ///< text options with a closed set
};

/// What values an option may take. Made by in_range, at_least, positive, one_of, any_value.
struct Check {
  std::string range;  ///< for help and errors: "1..256"
  std::vector<std::string> choices;
  std::function<bool(double)> allows;  ///< numbers only
};
Check in_range(double low, double high);
Check at_least(double low);
Check positive();
Check one_of(std::vector<std::string> choices);
Check any_value();

/// Text to value; the whole text must be used and the value finite. False: not such a value.
bool parse_option(std::string_view text, std::int64_t& value);
bool parse_option(std::string_view text, double& value);
bool parse_option(std::string_view text, bool& value);  ///< true|false|1|0|yes|no|on|off
bool parse_option(std::string_view text, std::string& value);
std::string option_text(std::int64_t value);
std::string option_text(double value);
std::string option_text(bool value);
std::string option_text(const std::string& value);

/// The declared options of a plain struct O whose members are std::int64_t, double, bool or std::string.
template <class O>
class OptionTable {
 public:
  template <class T>
  void add(std::string name, T O::*member, Check check, std::string help) {
    const O defaults{};
    const char* type = std::is_same_v<T, std::int64_t> ? "integer"
                       : std::is_same_v<T, double>     ? "number"
                       : std::is_same_v<T, bool>       ? "flag"
                                                       : "text";
    specs_.push_back({name, type, option_text(defaults.*member), check.range, std::move(help), check.choices});
    setters_[name] = [name, member, type, check](const std::string& owner, O& options, const std::string& text) {
      T value{};
      bool good = parse_option(text, value);
      if constexpr (std::is_arithmetic_v<T> && !std::is_same_v<T, bool>)
        good = good && (!check.allows || check.allows(static_cast<double>(value)));
      if constexpr (std::is_same_v<T, std::string>)
        good = check.choices.empty() ||
               std::find(check.choices.begin(), check.choices.end(), value) != check.choices.end();
      if (!good)
        fail(Code::kInvalidArgument, "[{}] {} must be {}, got '{}'", owner, name,
             check.range.empty() ? type : std::string(type) + " in " + check.range, text);
      options.*member = value;
    };
  }

  /// Throws kInvalidArgument naming `owner`: unknown option (with the nearest), not a value, out of range.
  O parse(const std::string& owner, const OptionTexts& texts) const {
    O options{};
    for (const auto& [name, text] : texts) {
      const auto setter = setters_.find(name);
      if (setter == setters_.end()) unknown(owner, name);
      setter->second(owner, options, text);
    }
    return options;
  }
  const std::vector<OptionSpec>& specs() const { return specs_; }

 private:
  [[noreturn]] void unknown(const std::string& owner, const std::string& name) const {
    std::vector<std::string> names;
    for (const OptionSpec& spec : specs_) names.push_back(spec.name);
    const std::string near = nearest(name, names);
    if (names.empty()) fail(Code::kInvalidArgument, "[{}] takes no options, got '{}'", owner, name);
    fail(Code::kInvalidArgument, "[{}] no option '{}'{}; it takes: {}", owner, name,
         near.empty() ? "" : ", did you mean '" + near + "'?", fmt::format("{}", fmt::join(names, ", ")));
  }

  std::vector<OptionSpec> specs_;
  std::map<std::string, std::function<void(const std::string&, O&, const std::string&)>> setters_;
};

}  // namespace recast
