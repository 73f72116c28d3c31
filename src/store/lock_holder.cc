#include "lock_holder.h"

#include <sys/stat.h>

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>

namespace recast {
namespace {

/// Bytes of the -shm file that SQLite locks to write to the log, to move it into the database, and to recover it
/// (walIndexHdr in SQLite's file format, "WAL Locks").
constexpr std::uint64_t kFirstWriteLock = 120, kLastWriteLock = 122;

std::optional<std::uint64_t> inode_of(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return {};
  return status.st_ino;
}

}  // namespace

std::optional<pid_t> lock_holder(const std::filesystem::path& database) {
  const auto file = inode_of(database.string()), index = inode_of(database.string() + "-shm");
  std::ifstream locks("/proc/locks");
  for (std::string line; std::getline(locks, line);) {
    // "1: POSIX  ADVISORY  WRITE 708 08:01:2359299 120 120"; who waits for a lock has "->" after the number.
    int pid = 0;
    unsigned long long inode = 0, first = 0;
    if (std::sscanf(line.c_str(), "%*d: POSIX %*s WRITE %d %*x:%*x:%llu %llu", &pid, &inode, &first) != 3) continue;
    const bool writes = inode == index && first >= kFirstWriteLock && first <= kLastWriteLock;
    if (pid > 0 && (writes || inode == file)) return pid;
  }
  return {};
}

}  // namespace recast
