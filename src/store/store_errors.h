#pragma once
#include <string>
#include <string_view>

namespace recast {

/// Inside a handler: whatever was thrown, as an Error whose text names the store. `shown`: how messages name it.
[[noreturn]] void rethrow_as_error(const std::string& shown);

/// Throws kDataCorruption: what is stored under `shown` cannot be as recast wrote it.
[[noreturn]] void fail_damaged_store(const std::string& shown, std::string_view what);
/// Throws kShapeMismatch unless `fingerprint`, of `what` 'name', is `ours`.
void require_backbone(const std::string& ours, const std::string& what, const std::string& name,
                      const std::string& fingerprint);

}  // namespace recast
