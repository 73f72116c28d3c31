#pragma once
#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace recast {

/// A time as it stands in files: "2026-01-31T23:59:59Z".
std::string utc_text(std::chrono::sys_seconds time);
/// The time now.
std::string utc_now();

/// The reverse of utc_text(). Nothing: another text, or a day or time that there is not.
std::optional<std::chrono::sys_seconds> parse_utc(std::string_view text);

}  // namespace recast
