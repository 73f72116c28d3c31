#pragma once
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "recast/run/learn_task.h"
#include "recast/run/model_directory.h"
#include "recast/run/settings.h"

namespace recast {

/// A request with everything decided that needs no data.
struct LearnPlan {
  Recipe recipe;  ///< with the request's overrides; plugs: all that are composed
  std::shared_ptr<const Composition> composition;
  std::int64_t image_size = 0;
};

/// Checks the request by itself. Throws kInvalidArgument.
void check_request(const LearnRequest& request);
/// The model directory of the request, with its store as it is now, for reading. Throws as ModelDirectory::open().
ModelDirectory open_directory(const LearnRequest& request);
/// Throws as merge_plugs(), compose() and Backbone::features().
LearnPlan plan_learning(const LearnRequest& request, const ModelDirectory& directory);
/// The newest version in the store, hidden or not; 0 if the task is new. What commit() would refuse at the very end is
/// refused here.
/// Throws kAlreadyExists: another task's name differs in upper and lower case only.
std::int64_t newest_version(const ModelDirectory& directory, const std::string& task);
/// The folder of a run that stores several versions: the request's own, else DIR/runs/TASK/vFIRST with `end` ("-seeds")
/// behind it, that of the newest one begun where the request resumes. Throws as newest_version().
std::filesystem::path folder_of_versions(const LearnRequest& request, const ModelDirectory& directory,
                                         std::string_view end);
/// What config.yaml holds.
Settings plan_settings(const LearnRequest& request, const LearnPlan& plan);

}  // namespace recast
