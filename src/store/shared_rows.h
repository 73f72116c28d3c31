#pragma once
#include <cstdint>
#include <optional>
#include <set>
#include <string>

#include "recast/store/task_header.h"

namespace recast {

/// One row of the table `shared_versions`.
struct SharedRow {
  std::int64_t parent, state;
};

/// Rows of the table `shared_versions`. Locks and errors as TaskRows.
class SharedRows {
 public:
  virtual ~SharedRows() = default;

  /// 0: none. Throws kDataCorruption where a version of a task follows a later one.
  virtual std::int64_t newest(const std::string& name) const = 0;
  virtual std::optional<SharedRow> find(const SharedVersion& version) const = 0;
  /// Throws kNotFound.
  SharedRow version(const SharedVersion& version) const;
  /// The version and those that it came from; none for a number below 1. Throws kNotFound.
  std::set<std::int64_t> lineage(const std::string& name, std::int64_t version) const;
  /// `state`: of the table `states`.
  virtual void insert(const SharedVersion& version, const std::string& fingerprint, std::int64_t state) = 0;
  /// Stores version `from` of the same name as `to`.
  virtual void copy(std::int64_t from, const SharedVersion& to) = 0;
  /// Erases the shared states that no version of a task follows, with all their versions.
  virtual void erase_unfollowed() = 0;
};

}  // namespace recast
