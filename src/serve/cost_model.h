#pragma once
#include <map>
#include <mutex>
#include <string>

namespace recast {

/// What the ways to run a row cost here, measured on the rows that are run; a mean in which each new value has the
/// weight of a tenth. Kinds are texts: tasks of one kind (plug-ins, image size) cost alike. Threads: all in parallel.
class CostModel {
 public:
  void saw_making(const std::string& kind, double seconds) { saw(kind, &Costs::making, seconds); }
  void saw_made_row(const std::string& kind, double seconds) { saw(kind, &Costs::made_row, seconds); }
  void saw_cold_row(const std::string& kind, double seconds) { saw(kind, &Costs::cold_row, seconds); }

  struct Costs {
    double making = 0;    ///< the task's weights, once
    double made_row = 0;  ///< a row with weights that are made
    double cold_row = 0;  ///< a row without: by templates, or with weights made on the way
  };
  /// 0 for what was not seen yet.
  Costs of(const std::string& kind) const {
    const std::lock_guard lock(mutex_);
    const auto found = costs_.find(kind);
    return found == costs_.end() ? Costs{} : found->second;
  }

 private:
  void saw(const std::string& kind, double Costs::*what, double seconds) {
    const std::lock_guard lock(mutex_);
    double& mean = costs_[kind].*what;
    mean = mean == 0 ? seconds : 0.9 * mean + 0.1 * seconds;
  }

  mutable std::mutex mutex_;
  std::map<std::string, Costs> costs_;
};

}  // namespace recast
