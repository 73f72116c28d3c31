#pragma once
#include "recast/method/model.h"

namespace recast {

/// The affine map that a model's heads compute: logits = features W^T + b.
struct LinearHead {
  at::Tensor weight, bias;  ///< [C, D] and [C], fp32
};

/// Found by asking the heads, whatever plug-ins they are: their answers to no features and to each unit of them give b
/// and W, and a few random rows must then agree to 1e-5 of the largest logit.
/// Throws kUnsupported, the head's plug-in named: it is not linear, or reads more than the features.
LinearHead linear_head(const Model& model);

}  // namespace recast
