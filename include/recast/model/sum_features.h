#pragma once
#include <ATen/core/Tensor.h>

#include <string>

#include "recast/model/blockwise_sum.h"

namespace recast {

/// What a backbone may be as well: one whose features, where all that a recipe does is to make weights as sums of
/// templates, are a single function, differentiable in the coefficients alone. It gives what Backbone::features() gives
/// of the same weights, up to rounding, and takes a fraction of its time and memory. Threads: all calls in parallel.
class SumFeatures {
 public:
  virtual ~SumFeatures() = default;
  /// Why there is no such function of this input in this dtype of products; empty if there is.
  virtual std::string why_no_sum_features(const at::Tensor& input, const BankSums& sums,
                                          at::ScalarType dtype) const = 0;
  /// As Backbone::features(), where why_no_sum_features() is empty. Slots that `sums` does not name have their own
  /// weights. A row's features depend neither on the others nor on the number of threads.
  virtual at::Tensor sum_features(const at::Tensor& input, const BankSums& sums, at::ScalarType dtype) const = 0;
};

}  // namespace recast
