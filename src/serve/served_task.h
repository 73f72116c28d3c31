#pragma once
#include <atomic>
#include <optional>

#include "recast/run/model_directory.h"
#include "template_pass.h"

namespace recast {

/// One version of a task, ready to answer. Constant but for `regret`.
struct ServedTask {
  std::string base, name;
  std::int64_t version = 0;
  std::string digest;  ///< of all that decides its answers: what caches know it by
  std::vector<std::string> labels;
  Model model;
  Preprocessing preprocessing;
  std::string kind;                       ///< what tasks cost alike by: plug-ins and image size
  bool makes_weights = false;             ///< a rule acts on the weight of a product
  std::optional<TemplateSums> sums = {};  ///< where that is all, and all of them are sums of templates
  std::int64_t bytes = 0;                 ///< of memory, about
  /// Seconds that rows have taken more than they would have with weights made, since none are kept.
  mutable std::atomic<double> regret{0};

  std::int64_t classes() const { return static_cast<std::int64_t>(labels.size()); }
};

std::shared_ptr<const ServedTask> make_served_task(const std::string& base, LoadedTask loaded, std::string digest);

}  // namespace recast
