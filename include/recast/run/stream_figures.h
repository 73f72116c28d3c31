#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace recast {

/// What was measured after one step of a class-incremental stream, on test rows. Group g: the classes new in step g.
/// Shares lie in 0..1.
struct StepFigures {
  std::int64_t classes = 0;    ///< seen so far, all competing
  std::int64_t test_rows = 0;  ///< of those classes
  double top1 = 0;             ///< over all of them
  std::vector<double> groups;  ///< A[s][0..s]: of each group's rows, among all classes seen
  /// Of the new group's rows among its own classes only: by the head of the stream, and by one that learned the same
  /// rows of these classes and nothing before. Absent for a group of one class, and where it was not asked for.
  std::optional<double> within, alone;
};

/// Figures of a whole stream of T steps, or of its first ones. Absent where they are not defined.
struct StreamFigures {
  double average = 0;                                   ///< mean over s of top1_s
  double last = 0;                                      ///< top1_T
  std::optional<double> forgetting, backward_transfer;  ///< from two steps on
  std::optional<double> forward_transfer;               ///< from two steps on, where `alone` is there
};

/// Throws kInvalidArgument: no steps, or a step s without s + 1 groups.
StreamFigures stream_figures(const std::vector<StepFigures>& steps);

/// How each figure is reckoned, for reports: (name in results.json, formula in words and letters).
const std::vector<std::pair<std::string, std::string>>& stream_formulas();

nlohmann::json step_json(const StepFigures& step);
StepFigures step_of_json(const nlohmann::json& step);

/// "step,classes,test_rows,top1,group_0,...": a line a step; groups that were not there yet are empty.
std::string accuracy_matrix_csv(const std::vector<StepFigures>& steps);
/// The same as a picture that stands alone: a cell for each step and group, and the top-1 curve beside it.
std::string accuracy_matrix_svg(const std::vector<StepFigures>& steps, const std::string& title);

}  // namespace recast
