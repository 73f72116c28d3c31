#pragma once
#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace recast {

inline constexpr std::size_t kMostQueryValueBytes = 512;

/// The query of a target, "?after=cars&search=a+b", taken apart; without one: empty. Values are visible text of
/// kMostQueryValueBytes at most. Pure.
/// Throws  kInvalidArgument: a name that is not in `known` (the nearest is named) or given twice, a value that is no
///         such text.
std::map<std::string, std::string> parse_query(std::string_view target, const std::vector<std::string>& known);

}  // namespace recast
