#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "fault_layer.h"

namespace recast::fault {

/// What the disk holds after a crash.
enum class Loss {
  kNothing,    ///< the process was killed: the system keeps all that it was given
  kUnsynced,   ///< power loss: bytes that were not synced are gone, and names made since the folder's last sync
  kBytesOnly,  ///< power loss: names survive, bytes that were not synced are gone
  kRandom      ///< power loss: some of the unsynced writes and names survived, in any order, the last write torn
};

/// A folder as a disk with a cache would hold it. Events go in one by one; at any point an image of what a crash leaves
/// can be written. A sync that failed is taken at its worst: what was to be written then never reaches the disk, and
/// the next sync says that all is well (as Linux does).
class DiskReplay {
 public:
  void add(const Event& event);
  /// Writes what is left into `folder`, which is empty.
  void write_image(Loss loss, std::mt19937& random, const std::filesystem::path& folder) const;

 private:
  struct File {
    std::string cached, durable;
    std::vector<Event> pending;  ///< kWrite and kTruncate since the last sync
  };
  using Names = std::map<std::string, int>;

  static void change(std::string& content, const Event& event);
  static void change(Names& names, const Event& event);
  static std::string folder_of(const std::string& path);
  std::string content(const File& file, Loss loss, std::mt19937& random) const;
  void sync_names(const std::string& folder);

  std::map<int, File> files_;
  Names names_, durable_names_;
  std::vector<Event> pending_names_;
  std::set<std::string> folders_, durable_folders_;
};

}  // namespace recast::fault
