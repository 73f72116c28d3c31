#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "recast/method/plug_spec.h"

namespace recast {

/// [{"alias":"second","method":"lora","options":{"rank":"4"}}, ...] as canonical JSON.
std::string encode_plugs(const std::vector<PlugSpec>& plugs);
/// Throws kDataCorruption naming `origin`.
std::vector<PlugSpec> decode_plugs(std::string_view text, std::string_view origin);

}  // namespace recast
