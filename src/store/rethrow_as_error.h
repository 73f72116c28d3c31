#pragma once
#include <string>

namespace recast {

/// Inside a handler: whatever was thrown, as an Error whose text names the store. `shown`: as Database::shown().
[[noreturn]] void rethrow_as_error(const std::string& shown);

}  // namespace recast
