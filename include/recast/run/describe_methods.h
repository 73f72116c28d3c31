#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "recast/method/recipe.h"
#include "recast/method/registry.h"

namespace recast {

std::string_view name(Claim claim);
std::string_view name(Need need);

/// {name, summary, paper, roles: [], claims: [], needs: [], suggested_rate: number or null,
///  options: [{name, type, default, range, choices, help}], families: [{name, scope, trains}]}.
nlohmann::json describe_method(const MethodInfo& info);
/// {name, summary, plugs: ["NAME:key=value"], epochs, batch_size, lr: number or null (each plug-in's own), head_lr,
///  weight_decay, clip_norm, augmentation, fit_head, bf16, seeds}.
nlohmann::json describe_recipe(const Recipe& recipe);
/// {methods: [...], recipes: [...]}, all or the one plug-in named. Throws kInvalidArgument with the nearest name.
nlohmann::json describe_methods(const std::string& only = {});

}  // namespace recast
