#pragma once
#include <sys/stat.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <vector>

namespace recast {

/// Tells whether files may hold something new, looking at them once in `every` at the most; links are followed.
/// Threads  one at a time.
class FileWatch {
 public:
  enum class News {
    kNone,
    kMaybe,  ///< changed so lately that the file system's clock would not tell another change
    kYes     ///< others than at the last look
  };

  /// What is read behind this is news only once it changes.
  FileWatch(std::vector<std::filesystem::path> files, std::chrono::milliseconds every);

  News look();

 private:
  /// What tells one content of a file from the next; as it is of no file where there is none.
  struct Signature {
    ::dev_t device = 0;
    ::ino_t inode = 0;
    ::off_t bytes = -1;
    std::int64_t changed_ns = 0, status_ns = 0;
    bool operator==(const Signature&) const = default;
  };
  std::vector<Signature> signatures() const;

  const std::vector<std::filesystem::path> files_;
  const std::chrono::milliseconds every_;
  std::chrono::steady_clock::time_point due_;
  std::vector<Signature> seen_;
};

}  // namespace recast
