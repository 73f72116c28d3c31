#pragma once
#include <atomic>
#include <cstdint>
#include <functional>

namespace recast {

using RowVisitor = std::function<void(std::int64_t row)>;

/// Threads that read images at once, at most: whoever has more cores has no use for more readers.
inline constexpr int kMostReaders = 256;

struct VisitOptions {
  int threads = 2;                                                      ///< 1 or more; kMostReaders work at most
  const std::atomic<bool>* stop = nullptr;                              ///< looked at about ten times a second
  std::function<void(std::int64_t done, std::int64_t total)> progress;  ///< called as often, from the calling thread
};

/// Visits rows 0 .. rows-1, each once, in worker threads that each ask `make_visitor` for a visitor of their own (its
/// buffers need no lock). Rows are begun in their order, and none after a visitor threw: so what is rethrown, that of
/// the lowest row, does not depend on the threads.
/// Returns  false if it was stopped before the end.  Throws kInvalidArgument for threads below 1.
bool visit_rows(std::int64_t rows, const VisitOptions& options, const std::function<RowVisitor()>& make_visitor);

}  // namespace recast
