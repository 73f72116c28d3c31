#pragma once
#include "recast/serve/engine.h"
#include "served_base.h"
#include "ticket.h"
#include "work_queue.h"

namespace recast {

/// What runs the rows that a worker took. Threads: all calls in parallel; a call runs in its own thread alone.
class BatchRunner {
 public:
  /// How a row was run.
  enum class Way { kMade, kTemplates, kDirect };
  /// Called for each pass.
  using Observer = std::function<void(const ServedBase&, Way, std::int64_t rows, double seconds)>;

  BatchRunner(Mixing mixing, bool bf16, std::int64_t max_rows_shared, Observer observer)
      : mixing_(mixing),
        dtype_(bf16 ? at::kBFloat16 : at::kFloat),
        max_shared_(max_rows_shared),
        observer_(std::move(observer)) {}

  /// Every row is finished or its ticket has failed when this returns. `base_of` names a task's base.
  void run(std::vector<WaitingRow> rows, const std::function<const ServedBase&(const std::string&)>& base_of) const;

 private:
  struct Row;
  struct Choice {
    Way way = Way::kDirect;
    std::shared_ptr<const MadeModel> made;
  };

  bool prepare(Row& row) const;
  Choice choose(const ServedBase& base, const std::shared_ptr<const ServedTask>& task, std::int64_t rows) const;
  std::shared_ptr<const MadeModel> make(const ServedBase& base, const ServedTask& task) const;
  void run_alone(Row& row, const Choice& choice) const;
  void run_shared(std::span<Row* const> rows) const;

  const Mixing mixing_;
  const at::ScalarType dtype_;
  const std::int64_t max_shared_;
  const Observer observer_;
};

}  // namespace recast
