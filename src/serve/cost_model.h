#pragma once
#include <bit>
#include <map>
#include <mutex>
#include <string>
#include <tuple>

namespace recast {

/// How rows run: with weights made for their task, by templates that rows of any tasks share, or as the task computes.
enum class Way { kMade, kTemplates, kDirect };

/// What passes cost here, measured on those that ran; a mean in which each new value has the weight of a tenth. Kinds
/// are texts: tasks of one kind (plug-ins, image size) cost alike. Threads: all in parallel.
class CostModel {
 public:
  void saw_making(const std::string& kind, double seconds) {
    const std::lock_guard lock(mutex_);
    add(making_[kind], seconds);
  }
  void saw_pass(const std::string& kind, Way way, std::size_t rows, double seconds) {
    const std::lock_guard lock(mutex_);
    add(row_[{kind, way, size(rows)}], seconds / static_cast<double>(rows));
  }

  /// Seconds to make the weights of a task; 0: not seen yet.
  double making(const std::string& kind) const {
    const std::lock_guard lock(mutex_);
    const auto found = making_.find(kind);
    return found == making_.end() ? 0 : found->second;
  }
  /// Seconds of a pass of so many rows, by those of about that many (1, 2, 3 to 4, 5 to 8, ...); 0: none was seen yet.
  double pass(const std::string& kind, Way way, std::size_t rows) const {
    const std::lock_guard lock(mutex_);
    const auto found = row_.find({kind, way, size(rows)});
    return found == row_.end() ? 0 : found->second * static_cast<double>(rows);
  }

 private:
  static int size(std::size_t rows) { return std::bit_width(rows - 1); }
  static void add(double& mean, double seconds) { mean = mean == 0 ? seconds : 0.9 * mean + 0.1 * seconds; }

  mutable std::mutex mutex_;
  std::map<std::string, double> making_;
  std::map<std::tuple<std::string, Way, int>, double> row_;
};

}  // namespace recast
