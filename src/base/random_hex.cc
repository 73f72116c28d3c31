#include "recast/base/random_hex.h"

#include <fmt/ranges.h>
#include <sys/random.h>

#include <cerrno>
#include <system_error>
#include <vector>

#include "recast/base/error.h"

namespace recast {

std::string random_hex(std::size_t bytes) {
  std::vector<unsigned char> drawn(bytes);  // up to 256 come whole or not at all
  if (::getrandom(drawn.data(), bytes, 0) != static_cast<ssize_t>(bytes)) {
    fail(Code::kUnavailable, "[random] the system gives no random numbers: {}", std::generic_category().message(errno));
  }
  return fmt::format("{:02x}", fmt::join(drawn, ""));
}

}  // namespace recast
