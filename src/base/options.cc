#include "recast/base/options.h"

#include <charconv>
#include <cmath>

namespace recast {
namespace {

template <class T>
bool parse_number(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

Check in_range(double low, double high) {
  return {fmt::format("{}..{}", low, high), {}, [=](double v) { return v >= low && v <= high; }};
}
Check at_least(double low) {
  return {fmt::format(">= {}", low), {}, [=](double v) { return v >= low; }};
}
Check positive() {
  return {"> 0", {}, [](double v) { return v > 0; }};
}
Check one_of(std::vector<std::string> choices) {
  std::string range = fmt::format("{}", fmt::join(choices, "|"));
  return {std::move(range), std::move(choices), {}};
}
Check any_value() { return {}; }

bool parse_option(std::string_view text, std::int64_t& value) { return parse_number(text, value); }
bool parse_option(std::string_view text, double& value) { return parse_number(text, value) && std::isfinite(value); }
bool parse_option(std::string_view text, bool& value) {
  value = text == "true" || text == "1" || text == "yes" || text == "on";
  return value || text == "false" || text == "0" || text == "no" || text == "off";
}
bool parse_option(std::string_view text, std::string& value) {
  value = text;
  return true;
}

std::string option_text(std::int64_t value) { return fmt::format("{}", value); }
std::string option_text(double value) { return fmt::format("{}", value); }
std::string option_text(bool value) { return value ? "true" : "false"; }
std::string option_text(const std::string& value) { return value; }

}  // namespace recast
