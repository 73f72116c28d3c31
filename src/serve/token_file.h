#pragma once
#include <filesystem>
#include <string>

namespace recast {

/// The text of a token file of at most 1 MiB. Throws  as read_file();  kInvalidArgument: others than its owner
/// may read or write it, but for the group where it is root's, or it belongs to neither this user nor root.
std::string read_token_file(const std::filesystem::path& file);

}  // namespace recast
