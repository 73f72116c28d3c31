#pragma once
#include <cstdint>
#include <filesystem>
#include <mutex>
#include <optional>

#include "file_look.h"
#include "sqlite.h"

namespace recast {

/// Counts what is committed to a database, by whomever, as far as anybody asks.
/// Threads  all calls may run in parallel; they take turns.    Owns  a connection of its own, from the first call on:
/// SQLite tells a connection of the commits of all others, and this one makes none.
class ChangeWatch {
 public:
  explicit ChangeWatch(std::filesystem::path path) : path_(std::move(path)) {}
  /// As TaskStore::changes().
  std::int64_t changes();

 private:
  void follow_file();
  void follow_connection();

  const std::filesystem::path path_;
  std::mutex mutex_;
  // Guarded by mutex_.
  std::optional<Database> database_;  // live; nothing: the file's look must tell
  StoreLook look_;
  std::int64_t version_ = 0, count_ = 0;
};

}  // namespace recast
