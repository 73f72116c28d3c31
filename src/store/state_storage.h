#pragma once
#include <ATen/core/Tensor.h>

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "recast/store/task_record.h"
#include "sqlite.h"

namespace recast {

/// A tensor that is kept in a file of its own, named by its content.
struct Blob {
  std::string tensor;  ///< "plug.family@slot#key"
  std::string sha256;  ///< of its bytes
  at::Tensor bytes;    ///< dense, on the CPU, of any dtype
};

/// A record taken apart for storage: `file` is its task file in which each blob is an empty tensor of its dtype.
struct PackedState {
  std::string file;
  std::vector<Blob> blobs;
  std::int64_t stored_bytes() const;
};

/// The state of a version: the task with its numbers of scope kTask, without what changes when a version is copied.
/// Tensors over 1 MiB become blobs, and of the others the largest until no more than 64 MiB stay in the file. Needs no
/// lock. Throws as encode_task().
PackedState pack_task(const TaskRecord& task);
/// The state of a version of the shared state `name`: numbers of scope kShared, and the plug-ins of the `task` that
/// brings them. As pack_task().
PackedState pack_shared(const TaskRecord& task, const Numbers& shared, const std::string& name);

/// Rows of the tables `states` and `blobs`, and the files in `folder`. Its caller holds the store's mutex and has begun
/// a Transaction, for what writes a Change: a blob is on the disk before the row that names it is committed, and no one
/// else sweeps `folder` meanwhile.
class StateStorage {
 public:
  StateStorage(Database& database, std::filesystem::path folder) : database_(database), folder_(std::move(folder)) {}

  /// Returns the id of the new state.
  std::int64_t write(const PackedState& state);
  /// Throws kDataCorruption: a digest differs, or a blob or its row is missing.
  TaskRecord read(std::int64_t id) const;
  /// 64 hexadecimal digits over all that read() returns, from the rows alone. Throws as read().
  std::string digest(std::int64_t id) const;
  /// Erases the rows of states that no version names.
  void erase_unnamed();
  /// Removes files that no row names; returns their bytes.
  std::int64_t sweep();

 private:
  void place(const Blob& blob);
  std::string origin(std::int64_t id) const;
  void read_blobs(std::int64_t id, TaskRecord& record) const;
  void require_no_other_blob(std::int64_t id, const std::set<std::string>& stand_ins) const;
  at::Tensor load(const std::string& sha256, std::int64_t bytes, const at::Tensor& like,
                  const std::string& shape) const;
  std::set<std::string> named() const;

  Database& database_;
  std::filesystem::path folder_;
};

}  // namespace recast
