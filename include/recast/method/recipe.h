#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "recast/method/compose.h"

namespace recast {

/// How a task is learned: plug-ins and settings. Plain data; recipes are registered beside the plug-ins that they name.
struct Recipe {
  std::string name, summary;
  std::vector<PlugSpec> plugs;  ///< loss, optimiser, schedule, ...: a user's plug-in of the same role replaces
  std::int64_t epochs = 100;
  std::int64_t batch_size = 128;
  double rate = 2e-3;            ///< base learning rate
  bool suggested_rates = false;  ///< a plug-in's own suggestion goes before `rate`
  double head_rate = 2e-3;       ///< of plug-ins with the head role
  double weight_decay = 1e-6;
  double clip_norm = 1;               ///< of the whole gradient; 0: none
  std::string augmentation = "none";  ///< none | flips | paper
  bool fit_head = false;              ///< fit the head on cached features before (and after) the epochs
  bool bf16 = false;                  ///< matrix products in bf16
  bool bf16_where_native = false;     ///< the same, on processors that multiply bf16 in hardware
  std::vector<std::uint64_t> seeds;   ///< those of the paper, for reports that repeat a run

  std::string text() const;  ///< one line for logs
};

/// Registered recipes by name; `fast` is the default. Throws kInvalidArgument with the nearest name.
const Recipe& find_recipe(const std::string& name);
std::vector<std::string> recipe_names();
bool add_recipe(Recipe recipe);

/// The recipe's plug-ins and the user's in one list: a user's plug-in that takes a role which only one may take (base
/// head, primary loss, driver, schedule, optimiser) replaces the recipe's. With no plug-in named by the user, those
/// that claim kPreferred and whose needs the anatomy meets are taken.
std::vector<PlugSpec> merge_plugs(const Recipe& recipe, std::vector<PlugSpec> chosen, const Anatomy& anatomy);

}  // namespace recast
