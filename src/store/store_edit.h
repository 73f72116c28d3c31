#pragma once
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "packed_state.h"
#include "store_view.h"

namespace recast {

/// A task and what it brings, ready to be written. What it points to outlives it.
struct TaskToCommit {
  const TaskRecord& task;
  PackedState packed;
  std::string followed;                      ///< name of the shared state; empty: the task stands alone
  std::optional<PackedState> packed_shared;  ///< its next version; nothing: the task follows the newest
  std::int64_t bytes() const { return packed.stored_bytes() + (packed_shared ? packed_shared->stored_bytes() : 0); }
};

/// What may be done to the tasks of a store of any kind, as TaskStore says, by the rows of one transaction that keeps
/// other writers out. Where a call throws, the transaction must be undone.
class StoreEdit {
 public:
  explicit StoreEdit(StoreView& view) : view_(view) {}

  std::int64_t commit(const TaskToCommit& commit);
  void remove(std::string_view name);
  /// The rows; the bytes of blobs are for StateStorage::sweep().
  void purge(std::string_view name);
  std::int64_t tag(std::string_view name, std::int64_t version, std::string_view tag, bool move);
  void untag(std::string_view name, std::string_view tag);
  std::int64_t rollback(std::string_view name, std::int64_t version);
  std::int64_t rollback_shared(const std::string& name, std::int64_t version);
  std::int64_t sweep() { return view_.states().sweep(); }

 private:
  void refuse_case_twin(const std::string& name) const;
  VersionRow require_version(std::string_view name, std::int64_t version) const;
  void refuse_other_tag(std::string_view name, std::string_view tag, std::optional<std::int64_t> before,
                        bool move) const;
  SharedVersion add_shared(const TaskRecord& task, const std::string& name, const PackedState& packed);
  SharedVersion follow(const std::string& name) const;
  void take_along(const std::string& task, const SharedVersion& now, const std::set<std::int64_t>& lineage);

  StoreView& view_;
};

}  // namespace recast
