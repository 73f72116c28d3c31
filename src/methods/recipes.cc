// Recipes: named bundles of plug-ins and settings. They stand here because they name plug-ins.
#include "recast/method/recipe.h"

namespace recast {
namespace {

// RECAST (arXiv:2411.16870), appendix: as published, except that the best epoch is chosen on a validation split.
const bool kPaper = add_recipe({.name = "paper",
                                .summary = "the RECAST paper's: 100 epochs from a random head",
                                .plugs = {{"ce", "ce", {}}, {"adamw", "adamw", {}}, {"step-decay", "step-decay", {}}},
                                .epochs = 100,
                                .batch_size = 128,
                                .rate = 2e-3,
                                .head_rate = 2e-3,
                                .weight_decay = 1e-6,
                                .clip_norm = 1,
                                .augmentation = "paper",
                                .seeds = {42, 1998, 3142592}});

const bool kFast = add_recipe({.name = "fast",
                               .summary = "fit the head on cached features, then a few epochs for everything else",
                               .plugs = {{"ce", "ce", {}}, {"adamw", "adamw", {}}, {"one-cycle", "one-cycle", {}}},
                               .epochs = 3,
                               .batch_size = 64,
                               .rate = 2e-3,
                               .suggested_rates = true,
                               .head_rate = 3e-4,
                               .weight_decay = 1e-6,
                               .clip_norm = 1,
                               .augmentation = "flips",
                               .fit_head = true,
                               .bf16_where_native = true,
                               .seeds = {42, 1998, 3142592}});

// What heads that learn class by class are held against: nothing is fitted, the head goes on from where it stands.
const bool kSteps = add_recipe({.name = "steps",
                                .summary = "20 epochs from where the numbers stand, nothing fitted; images as they are",
                                .plugs = {{"ce", "ce", {}}, {"adamw", "adamw", {}}, {"one-cycle", "one-cycle", {}}},
                                .epochs = 20,
                                .batch_size = 128,
                                .rate = 2e-3,
                                .suggested_rates = true,
                                .head_rate = 2e-3,
                                .weight_decay = 1e-6,
                                .clip_norm = 1,
                                .seeds = {42, 1998, 3142592}});

}  // namespace
}  // namespace recast
