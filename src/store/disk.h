#pragma once
#include <filesystem>
#include <optional>
#include <string>

namespace recast {

/// Makes a folder unless it is there. Throws kUnavailable.
void make_folder(const std::filesystem::path& folder);

/// flush_folder(), throws kUnavailable where it fails.
void sync_folder(const std::filesystem::path& folder);

/// The kind of network file system (or one in user space, which may be one) that holds `path`: "NFS", "SMB", ...
/// Nothing for a local disk, and where nobody knows.
std::optional<std::string> network_file_system(const std::filesystem::path& path);

/// SQLite's locks and its shared memory need one machine: others would not see them, and both would write. Throws
/// kUnsupported on a network file system, unless the environment says RECAST_NETWORK_STORE=allow.
void refuse_network(const std::filesystem::path& directory);

}  // namespace recast
