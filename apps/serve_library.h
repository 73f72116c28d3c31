#pragma once
#include <string>

namespace recast {

/// A symbol of librecast_serve, which is loaded at the first call: with gRPC it brings 40 libraries, and every other
/// command would start 30 ms later. Throws kUnavailable: it is not there.
void* serve_symbol(const std::string& name);

}  // namespace recast
