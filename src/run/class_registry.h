#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "recast/method/compose.h"
#include "recast/store/task_store.h"

namespace recast {

/// The columns of a head, and where the classes of a dataset stand among them.
struct ClassRegistry {
  std::vector<std::string> labels;           ///< of the columns
  std::vector<std::int64_t> label_of_class;  ///< column of each class of the dataset; empty: the same
};

/// The dataset's classes; where the recipe's head keeps its classes in the shared state of this name and there are
/// tasks that follow it, the classes of its columns first, those that the dataset adds behind them, matched by name.
ClassRegistry register_classes(const std::vector<std::string>& classes, const Composition& recipe,
                               const TaskStore& store, const std::string& shared);

}  // namespace recast
