#pragma once
#include <cstddef>
#include <functional>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "packed_state.h"

namespace recast {

/// A row of the table `states`; `file` only where it was asked for.
struct StateRow {
  std::string file, sha256;
};

/// A row of the table `blobs`.
struct BlobRow {
  std::string tensor, shape, sha256;
  std::int64_t bytes;
};

/// States by their ids: written and read back, every digest checked. What a kind of store must bring are its rows and a
/// place for the bytes of blobs.
/// Locks    none: its caller has the connection for itself and has begun a transaction; where it writes, one that keeps
///          other writers out.
class StateStorage {
 public:
  virtual ~StateStorage() = default;

  /// Returns the id of the new state. Blobs are safe before the row that names them is committed.
  virtual std::int64_t write(const PackedState& state) = 0;
  /// Throws kDataCorruption: a digest differs, or a blob or its row is missing.
  TaskRecord read(std::int64_t id) const;
  /// 64 hexadecimal digits over all that read() returns, from the rows alone. Throws as read().
  std::string digest(std::int64_t id) const;
  /// Erases the rows of states that no version names.
  virtual void erase_unnamed() = 0;
  /// Removes blobs that no row names; returns their bytes.
  virtual std::int64_t sweep() = 0;

 protected:
  /// Memory for a blob's bytes; to be called once its size was found right.
  using Allocate = std::function<std::span<std::byte>()>;

  /// How messages name the store.
  virtual std::string shown() const = 0;
  virtual std::optional<StateRow> row(std::int64_t id, bool with_file) const = 0;
  /// In the order of the bytes of `tensor`.
  virtual std::vector<BlobRow> blob_rows(std::int64_t id) const = 0;
  /// `stand_ins`: full names of tensors without elements that have no row. Throws kDataCorruption if one was lost.
  virtual void require_no_other_blob(std::int64_t id, const std::set<std::string>& stand_ins) const = 0;
  /// How messages name a blob.
  virtual std::string origin_of(const BlobRow& blob) const = 0;
  virtual void read_blob(const BlobRow& blob, const Allocate& allocate) const = 0;

 private:
  std::string origin(std::int64_t id) const;
  StateRow require_row(std::int64_t id, bool with_file) const;
  void read_blobs(std::int64_t id, TaskRecord& record) const;
  at::Tensor load(const BlobRow& blob, const at::Tensor& like) const;
};

/// 64 lower-case hexadecimal digits.
bool is_sha256(std::string_view text);

}  // namespace recast
