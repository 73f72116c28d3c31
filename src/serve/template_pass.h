#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <tuple>

#include "recast/method/model.h"

namespace recast {

/// What a task does to a backbone, where all it does is to make weights of sums of templates.
struct TemplateSums {
  struct Scales {
    at::Tensor values;        ///< [width, n] fp32: of each row (column) of the weight; [1, n]: of all alike
    bool of_columns = false;  ///< of the weight's columns, which are the features that enter; else of what comes out
  };
  std::map<std::string, Scales, std::less<>> slots;
  std::int64_t bytes() const;
};

/// Nothing: a branch, another weight rule, a tap or a column of the batch takes part, or kernels are cut along their
/// input channels.
std::optional<TemplateSums> template_sums(const Model& model);

/// Templates and offsets of one backbone, kept between passes. Threads: all calls in parallel.
class TemplateBanks {
 public:
  /// Template i of a slot's bank in a dtype.
  at::Tensor at(const Slot& slot, std::int64_t i, at::ScalarType dtype);
  /// All templates of a slot's bank side by side along what enters: [out, n * in, ...].
  at::Tensor joined(const Slot& slot, at::ScalarType dtype);
  /// What the backbone's operation at the slot gives for an input of zeros, its bias: shaped to be added to what the
  /// operation gives, in the dtype of x.
  at::Tensor offset(const Slot& slot, const at::Tensor& x, const Route::Apply& apply);

 private:
  std::mutex mutex_;
  std::map<std::tuple<const void*, std::int64_t, at::ScalarType>, at::Tensor> templates_;
  std::map<std::pair<const void*, at::ScalarType>, at::Tensor> joined_;
  std::map<std::pair<std::string, at::ScalarType>, at::Tensor> offsets_;
};

/// Features [R, D] fp32 of images [R, 3, height, width], row r by the weights of rows[r]: one product with the
/// templates for all rows, which meet their coefficients before it or after. A row's result depends on the other rows
/// by rounding alone. dtype: of products, fp32 or bf16. No gradient.
at::Tensor shared_features(const Backbone& backbone, std::span<const TemplateSums* const> rows, const at::Tensor& input,
                           at::ScalarType dtype, TemplateBanks& banks);

}  // namespace recast
