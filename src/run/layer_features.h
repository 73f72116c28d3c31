#pragma once
#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

#include "recast/model/backbone.h"

namespace recast {

/// Output of a layer in one model beside that in another.
struct FeatureLikeness {
  std::string layer;
  double cosine = 1;  ///< mean over images and tokens (places, where the layer gives a picture)
};

/// The activation slots that lie in no other: the backbone's layers.
std::vector<std::string> layers_of(const Anatomy& anatomy);

/// The bare backbone, which also remembers what comes out of the layers asked for.
class ListeningRoute : public PlainRoute {
 public:
  ListeningRoute(const Backbone& backbone, const std::vector<std::string>& layers) : PlainRoute(backbone) {
    for (const std::string& layer : layers) outputs[layer];
  }
  at::Tensor call(const Slot& slot, const at::Tensor& x, const Next& next) override;

  std::map<std::string, at::Tensor> outputs;
};

/// Of outputs of one shape: features [B, D], tokens [B, T, D] or pictures [B, C, H, W].
double mean_cosine(const at::Tensor& a, const at::Tensor& b);

}  // namespace recast
