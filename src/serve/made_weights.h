#pragma once
#include <map>
#include <memory>
#include <string>

#include "recast/method/model.h"

namespace recast {

/// Whether a rule acts on the weight of a product, so that there is something to make.
bool makes_weights(const Model& model);

/// The same model with its effective weights made once, in the dtype of products: a forward pass multiplies with them
/// and asks no weight rule again. What acts on vectors and activations goes on as before. In fp32 with the bits of
/// `model`, but for rules that offer a cheaper product of their own (Lora: x W^T + (x A^T) B^T).
struct MadeModel {
  Model model;
  std::int64_t bytes = 0;  ///< of the weights
};
MadeModel with_made_weights(const Model& model, at::ScalarType dtype);

}  // namespace recast
