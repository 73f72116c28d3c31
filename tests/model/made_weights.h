#pragma once
// What a backbone's own way to sum templates is held against: the definition, and how far off it is.
#include <ATen/ATen.h>

#include <vector>

#include "recast/model/backbone.h"
#include "recast/model/blockwise_sum.h"

namespace recast {

/// Each weight made, then the backbone's own pass, in the dtype of the images.
class MadeWeights final : public PlainRoute {
 public:
  MadeWeights(const Backbone& backbone, const BankSums& sums) : PlainRoute(backbone), sums_(sums) {}
  at::Tensor product(const Slot& slot, const at::Tensor& x, const Apply& apply) override {
    const auto sum = sums_.find(slot.name);
    if (sum == sums_.end()) return PlainRoute::product(slot, x, apply);
    const at::Tensor& c = sum->second.coefficients;
    return apply(x, blockwise_sum(slot.bank.to(c.scalar_type()), c, sum->second.blocks));
  }

 private:
  const BankSums& sums_;
};

inline at::Tensor features_by_definition(const Backbone& backbone, const at::Tensor& images, const BankSums& sums) {
  MadeWeights route(backbone, sums);
  return backbone.features(images, route);
}

inline BankSums in_double(const BankSums& sums) {
  BankSums doubles;
  for (const auto& [name, sum] : sums)
    doubles[name] = {sum.coefficients.detach().to(at::kDouble).set_requires_grad(sum.coefficients.requires_grad()),
                     sum.blocks};
  return doubles;
}

inline std::vector<at::Tensor> trained(const BankSums& sums) {
  std::vector<at::Tensor> all;
  for (const auto& [name, sum] : sums)
    if (sum.coefficients.requires_grad()) all.push_back(sum.coefficients);
  return all;
}

inline at::Tensor flat(const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> all;
  for (const at::Tensor& tensor : tensors) all.push_back(tensor.flatten().to(at::kDouble));
  return at::cat(all);
}

inline double relative_error(const at::Tensor& got, const at::Tensor& wanted) {
  return (got.to(at::kDouble) - wanted).norm().item<double>() / wanted.norm().item<double>();
}

}  // namespace recast
