#pragma once
#include <sys/types.h>

#include <compare>
#include <filesystem>
#include <string>
#include <vector>

namespace recast {

struct ListedEntry {
  std::string name;
  std::filesystem::file_type type;  ///< of what a link leads to; not_found: a link that leads nowhere
};

/// What lies in one folder, sorted bytewise by name, without names that begin with a dot.
struct Listing {
  struct Identity {
    dev_t device;
    ino_t inode;
    auto operator<=>(const Identity&) const = default;
  } folder;  ///< the same for every path to the folder
  std::vector<ListedEntry> entries;
};

/// One pass over the folder; only links, and files on disks that do not tell types, are looked at one by one.
/// Throws std::filesystem::filesystem_error.
Listing list_folder(const std::filesystem::path& folder);

}  // namespace recast
