#pragma once
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

namespace recast {

/// `text` from outside, fit for one line of a message or of a terminal: control characters, marks that turn the writing
/// direction and bytes that are not UTF-8 become \xNN; a longer text is cut after about `max_bytes` and ends in "...".
std::string printable(std::string_view text, std::size_t max_bytes = 80);
/// A path of any length that the system takes.
std::string printable_path(const std::filesystem::path& path);

}  // namespace recast
