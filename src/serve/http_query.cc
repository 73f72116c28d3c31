#include "http_query.h"

#include <algorithm>

#include "percent.h"
#include "recast/base/error.h"
#include "recast/format/printable.h"

namespace recast {
namespace {

std::string decoded(std::string_view text) {
  std::string spaced(text);
  std::ranges::replace(spaced, '+', ' ');  // as forms write a space
  const auto out = percent_decoded(spaced);
  if (!out) fail(Code::kInvalidArgument, "[url] '{}': a % that two hexadecimal digits must follow", printable(text));
  if (out->size() > kMostQueryValueBytes || printable(*out, out->size() + 1) != *out)
    fail(Code::kInvalidArgument, "[url] '{}': expected visible text of {} bytes at most", printable(text),
         kMostQueryValueBytes);
  return *out;
}

}  // namespace

std::map<std::string, std::string> parse_query(std::string_view target, const std::vector<std::string>& known) {
  std::map<std::string, std::string> values;
  const std::size_t mark = target.find('?');
  std::string_view rest = mark == target.npos ? std::string_view() : target.substr(mark + 1);
  while (!rest.empty()) {
    const std::string_view pair = rest.substr(0, rest.find('&'));
    rest.remove_prefix(std::min(rest.size(), pair.size() + 1));
    const std::size_t equals = std::min(pair.find('='), pair.size());
    const std::string name = decoded(pair.substr(0, equals));
    if (std::ranges::find(known, name) == known.end()) {
      const std::string near = nearest(name, known);
      fail(Code::kInvalidArgument, "[url] the query has no '{}' here{}", name,
           near.empty() ? "" : ", did you mean '" + near + "'?");
    }
    if (!values.emplace(name, decoded(pair.substr(std::min(pair.size(), equals + 1)))).second)
      fail(Code::kInvalidArgument, "[url] the query says '{}' twice", name);
  }
  return values;
}

}  // namespace recast
