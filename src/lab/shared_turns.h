#pragma once
#include <filesystem>
#include <optional>

#include "recast/comm/ranks.h"

namespace recast {

/// Numbers 0, 1, ... of which each is given to one rank, in a file of a folder that all ranks see: whoever is free
/// takes the next, and a rank that is lost takes none. Threads: all calls in parallel.
class SharedTurns {
 public:
  /// Begins anew; by all ranks. Throws kUnsupported: a rank does not see the folder of rank 0; kUnavailable.
  SharedTurns(const std::filesystem::path& folder, Ranks& ranks);
  /// Throws kUnavailable.
  std::int64_t take() const;

 private:
  std::filesystem::path file_;
};

}  // namespace recast
