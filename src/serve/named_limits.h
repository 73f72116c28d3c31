#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "recast/serve/server.h"

namespace recast {

/// A limit of a server that can be told by name (docs/serving.md, "Limits").
struct Limit {
  std::string_view name;  ///< "http.body_bytes"; times are in milliseconds and end in _ms
  std::int64_t (*get)(const ServerOptions&);  ///< where the port that it is of is served
  /// Ports that are not served have no limits.
  void (*set)(ServerOptions&, std::int64_t);
};
std::span<const Limit> all_limits();

/// Sets what "NAME=VALUE" says. Whether a value is in range is checked by what it is a limit of.
/// Throws  kInvalidArgument: another form, no such name (with the nearest), no whole number from 0.
void set_limit(ServerOptions& options, const std::string& assignment);

}  // namespace recast
