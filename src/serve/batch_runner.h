#pragma once
#include "recast/serve/engine.h"
#include "served_base.h"
#include "ticket.h"
#include "work_queue.h"

namespace recast {

/// What runs the rows that a worker took. Threads: all calls in parallel; a call runs in its own thread alone.
class BatchRunner {
 public:
  /// Called for each pass.
  using Observer = std::function<void(const ServedBase&, Way, std::int64_t rows, double seconds)>;

  BatchRunner(Mixing mixing, bool bf16, Observer observer)
      : mixing_(mixing), dtype_(bf16 ? at::kBFloat16 : at::kFloat), observer_(std::move(observer)) {}

  /// Every row is finished or its ticket has failed when this returns. `base_of` names a task's base.
  void run(std::vector<WaitingRow> rows, const std::function<const ServedBase&(const std::string&)>& base_of) const;

 private:
  struct Row;
  /// Rows of one task and one size.
  struct TaskRows;

  static at::Tensor inputs_of(std::span<Row* const> rows);
  /// With the error at hand.
  static void fail_all(std::span<Row* const> rows);
  bool prepare(Row& row) const;
  std::shared_ptr<const MadeModel> make(const ServedBase& base, const ServedTask& task) const;
  /// Whether rows that ran without made weights have by now cost so much more than with them that making them is paid
  /// for.
  bool worth_making(const TaskRows& of, double cost) const;
  /// `shared`: what all rows cost in one pass.
  bool cheaper_shared(std::span<const TaskRows* const> tasks, double shared) const;

  void run_each(const TaskRows& of) const;
  void run_task(const TaskRows& of) const;
  void run_mixed(std::span<TaskRows* const> tasks) const;
  void run_pass(std::span<Row* const> rows, const std::shared_ptr<const MadeModel>& made) const;
  void run_shared(std::span<Row* const> rows) const;

  const Mixing mixing_;
  const at::ScalarType dtype_;
  const Observer observer_;
  mutable std::atomic<std::uint64_t> decisions_{0};
};

}  // namespace recast
