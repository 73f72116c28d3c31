#pragma once
#include <fmt/format.h>

#include <chrono>
#include <string_view>

#include "recast/base/error.h"
#include "recast/serve/inference.h"
#include "recast/serve/server_port.h"

namespace recast {

// Checks of a port's options. Each throws kInvalidArgument, in the name of `area`: "[http] workers must lie in 1..1024,
// got 0".

/// What PortOptions holds. `tokens`: whether callers are asked for one.
void check_port(std::string_view area, const PortOptions& options, bool tokens);

template <class Number>
void check_range(std::string_view area, std::string_view name, Number value, Number least, Number most) {
  if (value >= least && value <= most) return;
  fail(Code::kInvalidArgument, "[{}] {} must lie in {}..{}, got {}", area, name, least, most, value);
}
/// Bytes, or what takes some each: from 1 to 2^50.
void check_count(std::string_view area, std::string_view name, std::size_t value);
/// From a millisecond to a day.
void check_time(std::string_view area, std::string_view name, std::chrono::milliseconds value);
/// By the names that --limit has for them.
void check_limits(std::string_view area, const RequestLimits& limits);

}  // namespace recast
