#pragma once

namespace recast {

/// Whether this is built with a sanitizer that takes the place of malloc() and of the crash report.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

}  // namespace recast
