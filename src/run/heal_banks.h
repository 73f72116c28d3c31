#pragma once
#include <memory>
#include <nlohmann/json.hpp>

#include "recast/run/mimic_directory.h"
#include "recast/run/model_directory.h"

namespace recast {

/// Throws kInvalidArgument: steps without data; steps, batch or rate out of range.
void check_heal_options(const HealOptions& options);

/// Distils the original into the banks of a lossy mimicry: AdamW on templates and coefficients, so that the outputs of
/// the layers and the features on training images come back to the original's. Loss: squared difference over squared
/// size, mean over layers. A step moves a tensor by `rate` of its own root mean square at most, falling to 0 by a
/// cosine. Validation images decide whether the healed numbers are kept; test images tell what they are worth.
/// Deterministic for a seed, a machine and a thread count.
/// `files`: the mimicked model, whose bank is replaced. Returns {steps, batch, rate, images: of training, seconds,
/// loss_first, loss_last, kept, validation: {images, before, after}: mean cosine over layers and features,
/// features: [{layer, before, after}] on the test images, mean_feature_cosine: {before, after}, task: {before, after}
/// as Likeness::json(), test_images}.
///
/// Throws  as check_heal_options(); kInvalidArgument: the loss is not finite; as open_dataset() and decoding;
/// kCancelled.
nlohmann::json heal_banks(ModelFiles& files, const ModelDirectory& original, const HealOptions& options,
                          std::uint64_t seed, const StudyWatch& watch);

}  // namespace recast
