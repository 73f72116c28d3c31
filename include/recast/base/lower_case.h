#pragma once
#include <string>
#include <string_view>

namespace recast {

/// A-Z as a-z, whatever the locale; other bytes as they are.
std::string lower_case(std::string_view text);

}  // namespace recast
