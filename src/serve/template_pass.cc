// Template-wise evaluation: with W = sum_i c_i T_i, x W^T = sum_i c_i (x T_i^T), so rows of any tasks share each
// product with a template. Where a block b of output features has coefficients of its own, what comes out is scaled
// feature by feature; where they belong to blocks of input features, what enters is.
#include "template_pass.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "recast/base/error.h"
#include "recast/method/bank_sum.h"

namespace recast {
namespace {

bool only_makes_weights(const Model& model) {
  const Composition& recipe = model.recipe();
  if (!recipe.taps().empty() || !recipe.varies_by().empty()) return false;
  for (const Slot& slot : model.backbone().anatomy().slots)
    if (!recipe.branches(slot.name).empty()) return false;
  return true;
}

/// [B, n] per block to [width, n] per row or column; one block stays [1, n].
at::Tensor per_feature(const BankSum& sum, const Slot& slot) {
  if (sum.coefficients.size(0) == 1) return sum.coefficients.contiguous();
  const std::int64_t width = slot.shape.at(sum.blocks.of_columns ? 1 : 0);
  return sum.coefficients.index_select(0, at::arange(width).floor_divide(sum.blocks.length));
}

class TemplateRoute final : public Route {
 public:
  TemplateRoute(const Backbone& backbone, std::span<const TemplateSums* const> rows, at::ScalarType dtype,
                TemplateBanks& banks)
      : backbone_(backbone), rows_(rows), dtype_(dtype), banks_(banks) {}

  at::Tensor call(const Slot&, const at::Tensor& x, const Next& next) override { return next(x); }

  at::Tensor product(const Slot& slot, const at::Tensor& given, const Apply& apply) override {
    const at::Tensor x = given.to(dtype_);
    std::vector<const TemplateSums::Scales*> scales;
    bool touched = false, of_columns = false, by_feature = false;
    for (const TemplateSums* row : rows_) {
      const auto found = row->slots.find(slot.name);
      scales.push_back(found == row->slots.end() ? nullptr : &found->second);
      if (!scales.back()) continue;
      touched = true;
      if (scales.back()->values.size(0) == 1) continue;
      by_feature = true;
      of_columns = scales.back()->of_columns;
    }
    if (!touched) return apply(x, backbone_.weight(slot));
    return sum(slot, x, shaped(slot, scales, by_feature, of_columns, x), by_feature && of_columns, apply);
  }

 private:
  /// n tensors to multiply x or what comes out with: [R, 1, width or 1], for images [R, width or 1, 1, 1].
  std::vector<at::Tensor> shaped(const Slot& slot, const std::vector<const TemplateSums::Scales*>& scales,
                                 bool by_feature, bool of_columns, const at::Tensor& x) {
    const std::int64_t width = by_feature ? slot.shape.at(of_columns ? 1 : 0) : 1;
    const at::Tensor own = slot.coefficients.mean(0, /*keepdim=*/true);
    std::vector<at::Tensor> rows;
    for (const TemplateSums::Scales* scale : scales) {
      const at::Tensor& values = scale ? scale->values : own;
      rows.push_back(values.size(0) == width ? values : values.expand({width, values.size(1)}));
    }
    const auto rank = static_cast<std::size_t>(x.dim());
    std::vector<std::int64_t> shape(rank, 1);
    shape[0] = static_cast<std::int64_t>(rows.size());
    shape[rank == 4 ? 1 : rank - 1] = width;
    std::vector<at::Tensor> by_template;
    for (const at::Tensor& column : at::stack(rows).unbind(2)) by_template.push_back(column.contiguous().view(shape));
    return by_template;
  }

  at::Tensor sum(const Slot& slot, const at::Tensor& x, const std::vector<at::Tensor>& scales, bool enters,
                 const Apply& apply) {
    const at::Tensor offset = banks_.offset(slot, x, apply);
    at::Tensor y, offsets;  // sum of scaled products; how often the offset is in it
    for (std::size_t i = 0; i < scales.size(); ++i) {
      if (!scales[i].any().item<bool>()) continue;
      const at::Tensor entering = enters ? (x * scales[i]).to(dtype_) : x;
      const at::Tensor product = apply(entering, banks_.at(slot, static_cast<std::int64_t>(i), dtype_));
      if (enters) {
        y = y.defined() ? y.add_(product) : product;
      } else {
        y = y.defined() ? y.addcmul_(product, scales[i].to(product.scalar_type()))
                        : product * scales[i].to(product.scalar_type());
      }
      const at::Tensor here = enters ? at::ones({1}) : scales[i];
      offsets = offsets.defined() ? offsets + here : here;
    }
    if (!y.defined()) return apply(x, at::zeros(slot.shape));  // all coefficients are 0
    return offset.defined() ? y.addcmul_(offset, (1 - offsets).to(y.scalar_type())) : y;
  }

  const Backbone& backbone_;
  const std::span<const TemplateSums* const> rows_;
  const at::ScalarType dtype_;
  TemplateBanks& banks_;
};

}  // namespace

std::int64_t TemplateSums::bytes() const {
  std::int64_t sum = 0;
  for (const auto& [slot, scales] : slots) sum += static_cast<std::int64_t>(scales.values.nbytes());
  return sum;
}

std::optional<TemplateSums> template_sums(const Model& model) {
  if (!only_makes_weights(model)) return {};
  const at::NoGradGuard no_grad;
  TemplateSums sums;
  try {
    for (const auto& [name, sum] : bank_sums(model)) {
      const Slot& slot = model.backbone().anatomy().at(name);
      if (sum.blocks.of_columns && sum.coefficients.size(0) > 1 && slot.shape.size() != 2) return {};
      sums.slots[name] = {per_feature(sum, slot), sum.blocks.of_columns};
    }
  } catch (const Error& error) {
    if (error.code() != Code::kUnsupported) throw;
    return {};
  }
  return sums;
}

at::Tensor TemplateBanks::at(const Slot& slot, std::int64_t i, at::ScalarType dtype) {
  if (slot.bank.scalar_type() == dtype) return slot.bank[i];
  const std::lock_guard lock(mutex_);
  at::Tensor& kept = templates_[{slot.bank.const_data_ptr(), i, dtype}];
  if (!kept.defined()) kept = slot.bank[i].to(dtype);
  return kept;
}

at::Tensor TemplateBanks::offset(const Slot& slot, const at::Tensor& x, const Route::Apply& apply) {
  const std::lock_guard lock(mutex_);
  const auto key = std::pair(slot.name, x.scalar_type());
  if (const auto found = offsets_.find(key); found != offsets_.end()) return found->second;
  const bool image = x.dim() == 4;
  const at::Tensor zeros =
      image ? at::zeros_like(x.narrow(0, 0, 1)) : at::zeros_like(x.narrow(0, 0, 1).narrow(1, 0, 1));
  at::Tensor y = apply(zeros, slot.bank[0]);
  if (image) y = y.narrow(2, 0, 1).narrow(3, 0, 1).contiguous();
  return offsets_[key] = y.any().item<bool>() ? y : at::Tensor();
}

at::Tensor shared_features(const Backbone& backbone, std::span<const TemplateSums* const> rows, const at::Tensor& input,
                           at::ScalarType dtype, TemplateBanks& banks) {
  RECAST_ASSERT(input.size(0) == static_cast<std::int64_t>(rows.size()));
  const at::NoGradGuard no_grad;
  TemplateRoute route(backbone, rows, dtype, banks);
  return backbone.features(input, route).to(at::kFloat);
}

}  // namespace recast
