#pragma once
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "recast/serve/service.h"

namespace prometheus {
class Registry;
}

namespace recast {

/// How rows of different tasks run.
enum class Mixing {
  kAuto,      ///< whichever costs less, by what was measured so far; rows of one task share a pass
  kGrouped,   ///< each row with its task's own weights, made once and kept: an answer never depends on other rows
  kTemplates  ///< rows of all tasks share each product with a template, wherever tasks are sums of templates
};

struct EngineOptions {
  std::vector<std::filesystem::path>
      directories;  ///< model directories; their names (last part) are those of the bases
  std::string store;  ///< URL of the task store of all of them, as open_store() takes it; empty: their own
  std::string device = "cpu";
  bool bf16 = false;  ///< products in bf16
  Mixing mixing = Mixing::kAuto;
  int workers = 0;             ///< threads that compute, one row or one shared pass each; 0: one a processor
  std::int64_t max_batch = 8;  ///< rows that a worker takes at a time
  std::chrono::microseconds max_delay{0};  ///< how long a row waits for others at most
  std::int64_t max_rows = 1024;            ///< in a request
  /// Of all that wait. A caller who has rows in there gets three quarters of it at most; then kUnavailable.
  std::int64_t queue_rows = 4096, queue_bytes = std::int64_t{1} << 30;
  std::int64_t task_bytes = std::int64_t{512} << 20;  ///< of tasks that are kept ready
  std::int64_t weight_bytes = std::int64_t{2} << 30;  ///< of weights that are kept made
  /// How long names that are known go on to mean what they meant when the store was there last, while it is away.
  std::chrono::milliseconds store_grace{60'000};
};

/// The tasks of some model directories behind one queue and one set of workers. Rows of all requests and tasks meet in
/// a worker's batch. In fp32 on the CPU, by Mixing::kGrouped, row i of any batch has the bits of the same row alone:
/// each row is a pass of its own, so that no product's shape depends on what else waits; otherwise they agree to
/// rounding. A task is looked up in the store at each request (a commit of any process holds from the next request on)
/// and read once; a request keeps the versions that it began with. Callers take turns, row by row. Without its store a
/// base answers for what it knows, up to the grace; then it is not ready, until the store is back. Counts go to
/// `metrics`, which may be null. Throws as ModelDirectory::open(); kInvalidArgument: an option, two directories of
/// one name, or several of which one has a name that no task could have.
std::unique_ptr<Service> make_engine(const EngineOptions& options, prometheus::Registry* metrics);

}  // namespace recast
