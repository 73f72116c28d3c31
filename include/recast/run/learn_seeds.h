#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "recast/run/learn_task.h"

namespace recast {

/// "42,1998,3142592". Throws kInvalidArgument: not whole numbers of 0 to 2^64 - 1, one twice, or none.
std::vector<std::uint64_t> parse_seeds(std::string_view text);

/// learn_task() once with each of request.seeds, over one split of the data. Each run stores a version of the task, in
/// the order of the seeds, so the last one is the newest; none is chosen by its figures. The runs lie in
/// DIRECTORY/runs/TASK/vFIRST-seeds/seed-S, or below request.run_folder; beside them results.json with what is
/// returned. `resume` goes on with the first unfinished seed of the newest such folder. Returns {task, recipe, plugs,
/// seeds, task_versions, validation_top1, test_top1: {values, mean, deviation: of the sample,
///  interval95: [low, high] of the mean by Student's t, or null}, or null without test; runs: [results of each]} and
///  what provenance() says.
/// Throws as learn_task(); kUnsupported for recipes that share a state among tasks, and by several ranks; what was
/// learned before stays stored.
nlohmann::json learn_with_seeds(const LearnRequest& request);

/// {values, mean, deviation, interval95: [low, high] or null}.
nlohmann::json spread_json(const std::vector<double>& values);
/// The same of accuracies: the interval does not leave 0..1.
nlohmann::json share_spread_json(const std::vector<double>& shares);

}  // namespace recast
