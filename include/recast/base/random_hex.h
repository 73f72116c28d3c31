#pragma once
#include <cstddef>
#include <string>

namespace recast {

/// So many random bytes (256 at the most) of the system's generator, as hexadecimal digits. Throws kUnavailable.
std::string random_hex(std::size_t bytes);

}  // namespace recast
