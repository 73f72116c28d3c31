#pragma once
#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace recast {

/// The time now in whole seconds, as it stands in files: "2026-01-31T23:59:59Z".
std::string utc_now();

/// A time as it stands in files. Nothing: another text, or a day or time that there is not.
std::optional<std::chrono::sys_seconds> parse_utc(std::string_view text);

}  // namespace recast
