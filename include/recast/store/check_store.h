#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace recast {

/// What SQLite says about the database of a task store, whatever its rows mean.
struct StoreCheck {
  std::optional<std::string> network;  ///< the kind of network file system that the directory lies on
  bool present = false;                ///< there is a tasks.db; without one nothing below is set
  std::int64_t schema = 0;             ///< PRAGMA user_version
  std::int64_t bytes = 0;              ///< of tasks.db and its log
  std::vector<std::string> faults;     ///< of integrity_check and foreign_key_check, 20 at most; empty: sound
  std::vector<std::string> strays;     ///< files in blobs/ that no version names
};

/// Looks through the whole of `directory`/tasks.db, for reading only. O(bytes).
/// Throws  kDataCorruption: not a database, or too damaged to be looked through;  kUnavailable: out of reach.
StoreCheck check_store(const std::filesystem::path& directory);

/// {version, threads: "serialized", "multi-thread" or "single-thread"} of the SQLite library that is loaded.
struct SqliteLibrary {
  std::string version, threads;
};
SqliteLibrary sqlite_library();

}  // namespace recast
