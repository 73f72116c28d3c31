#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace recast {

/// A part of a URL with every %XX taken back once. Nothing: a % without two hexadecimal digits behind it.
std::optional<std::string> percent_decoded(std::string_view text);

}  // namespace recast
