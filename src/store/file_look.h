#pragma once
#include <sys/types.h>

#include <cstdint>
#include <filesystem>

namespace recast {

/// How a file looks from outside; all 0: nothing there. A symbolic link is looked at itself.
struct FileLook {
  dev_t device = 0;
  ino_t inode = 0;
  std::int64_t bytes = 0, changed_ns = 0;

  bool operator==(const FileLook&) const = default;
  bool there() const { return inode != 0; }
  bool same_file(const FileLook& other) const { return device == other.device && inode == other.inode; }
};
FileLook look_at(const std::filesystem::path& path);

/// Of a database and its log: what changes when somebody writes to it, for those who hold no connection that would
/// know.
struct StoreLook {
  FileLook database, log;
  bool operator==(const StoreLook&) const = default;
};
StoreLook look_at_store(const std::filesystem::path& database);

/// Throws kUnavailable: another file, or none, lies where `opened` lay. Its log may be that of the one that is open,
/// and a database read with a foreign log is a wrong one, so nobody goes on by himself.
void require_same_file(const std::filesystem::path& database, const FileLook& opened);

}  // namespace recast
