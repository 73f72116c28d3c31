#pragma once
#include <string_view>

namespace recast {

/// Throws kUnsupported if the first bytes of a file are those of a well-known other kind, saying which and what to do.
/// `probe`: the first 512 bytes, or all of a shorter file. `origin` names the file.
void refuse_foreign_file(std::string_view probe, std::string_view origin);

}  // namespace recast
