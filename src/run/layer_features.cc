#include "layer_features.h"

#include <ATen/ATen.h>

namespace recast {

std::vector<std::string> layers_of(const Anatomy& anatomy) {
  std::vector<std::string> layers;
  for (const Slot& slot : anatomy.slots)
    if (slot.kind == SlotKind::kActivation && (layers.empty() || !slot.name.starts_with(layers.back() + ".")))
      layers.push_back(slot.name);
  return layers;
}

at::Tensor ListeningRoute::call(const Slot& slot, const at::Tensor& x, const Next& next) {
  at::Tensor y = next(x);
  if (const auto found = outputs.find(slot.name); found != outputs.end()) found->second = y;
  return y;
}

double mean_cosine(const at::Tensor& a, const at::Tensor& b) {
  const std::int64_t channels = a.dim() == 4 ? 1 : -1;
  return at::cosine_similarity(a.to(at::kDouble), b.to(at::kDouble), channels).mean().item<double>();
}

}  // namespace recast
