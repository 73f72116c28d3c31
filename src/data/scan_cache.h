#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>

#include "recast/data/contents.h"

namespace recast {

/// What tells whether a file is still the one that was hashed.
struct FileStamp {
  std::uint64_t size = 0;
  std::int64_t modified_ns = 0, changed_ns = 0;  ///< since 1970; of the content, of the inode
  bool operator==(const FileStamp&) const = default;
};

/// Digests of a dataset's files by id. On disk, all numbers little-endian: "RECAST SCAN 1\n"; length (u32) and bytes of
/// the dataset's path; count (u64); for each entry length (u32) and bytes of the id, size (u64), the two times (i64),
/// 32 bytes of digest; at the end the SHA-256 of everything before, in hexadecimal.
class ScanCache {
 public:
  struct Entry {
    FileStamp stamp;
    Digest digest;
  };

  /// Of `bytes` written for the same path; an empty one if they are damaged in any way, or another dataset's.
  static ScanCache parse(std::string_view bytes, std::string_view dataset_path);
  std::string bytes(std::string_view dataset_path) const;

  /// The digest of `id` if its file has this stamp.
  const Digest* find(const std::string& id, const FileStamp& stamp) const;
  void put(const std::string& id, const Entry& entry) { entries_.insert_or_assign(id, entry); }
  std::size_t size() const { return entries_.size(); }
  void reserve(std::size_t count) { entries_.reserve(count); }

 private:
  std::unordered_map<std::string, Entry> entries_;
};

}  // namespace recast
