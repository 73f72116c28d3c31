#pragma once
#include <nlohmann/json.hpp>
#include <string_view>

#include "recast/model/anatomy.h"
#include "recast/run/model_directory.h"

namespace recast {

/// "weight", "vector", "activation", "norm", "feature", "head", "param".
std::string_view name(SlotKind kind);

/// What a model directory holds:
/// {directory, fingerprint, config: as config.json, feature_width, parameters, bytes: {backbone, bank, tasks},
///  groups: [{name, slots, templates, shape, bytes}], coefficients: a task's at one vector a slot and set,
///  task_numbers: [{plug, numbers}]: what a task would train with plug-ins that live on banks, by their options,
///  slots: [{name, kind, shape, role, depth, group: name or null}], tasks: count}.
nlohmann::json inspect_directory(const ModelDirectory& directory);

}  // namespace recast
