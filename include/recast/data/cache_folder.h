#pragma once
#include <filesystem>

namespace recast {

/// Where what can be computed again is kept: $RECAST_CACHE, else $XDG_CACHE_HOME/recast, else ~/.cache/recast. Empty:
/// nowhere, since RECAST_CACHE is "off" or no home is known. Relative paths in XDG_CACHE_HOME are ignored, as its
/// standard says. The folder need not exist.
std::filesystem::path cache_folder();

}  // namespace recast
