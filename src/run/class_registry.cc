#include "class_registry.h"

#include <algorithm>

namespace recast {
namespace {

/// The labels of the task that knows the most classes among those that follow a shared state.
std::vector<std::string> known_labels(const TaskStore& store, const std::string& shared) {
  std::vector<std::string> known;
  for (const TaskSummary& task : store.list(true)) {
    if (task.classes <= static_cast<std::int64_t>(known.size())) continue;
    const auto record = store.load(task.name, task.version);
    if (record && record->follows && record->follows->name == shared) known = record->labels;
  }
  return known;
}

}  // namespace

ClassRegistry register_classes(const std::vector<std::string>& classes, const Composition& recipe,
                               const TaskStore& store, const std::string& shared) {
  if (recipe.head().info->class_scope() != Scope::kShared) return {classes, {}};
  ClassRegistry registry{known_labels(store, shared), {}};
  if (registry.labels.empty()) return {classes, {}};
  for (const std::string& name : classes) {
    const auto place = std::find(registry.labels.begin(), registry.labels.end(), name);
    registry.label_of_class.push_back(place - registry.labels.begin());
    if (place == registry.labels.end()) registry.labels.push_back(name);
  }
  return registry;
}

}  // namespace recast
