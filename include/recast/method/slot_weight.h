#pragma once
#include <string_view>

#include "recast/method/model.h"

namespace recast {

/// The effective weight of one weight or vector slot after all rules: fp32, shape of the slot. What Model::weights()
/// gives for it, without making the others. Gradients flow into the model's numbers unless the caller forbids them.
/// Threads: calls may run in parallel. Throws kNotFound with the nearest slot.
at::Tensor slot_weight(const Model& model, std::string_view slot, const Run& run = {});

}  // namespace recast
