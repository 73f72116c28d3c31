// Template-wise evaluation: with W = sum_i c_i T_i, x W^T = sum_i (c_i x) T_i^T = [c_1 x, c_2 x, ...] [T_1, T_2,
// ...]^T, so rows of any tasks share one product with the joined templates, scaled where they enter: that side is the
// narrower one, and the sum stays within the product. Where a block b of output features has coefficients of its own,
// or the channels of a convolution do not meet, each template's product is scaled feature by feature where it comes
// out.
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

/// Which axis of x holds the features: [R, T, width] or images [R, width, height, width].
std::int64_t features_of(const at::Tensor& x) { return x.dim() == 4 ? 1 : x.dim() - 1; }

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
    bool touched = false, by_feature = false, of_columns = false;
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
    const std::vector<at::Tensor> by_template = shaped(slot, scales, by_feature, of_columns, x);
    const bool channels_meet = slot.shape.at(1) == x.size(features_of(x));
    if (channels_meet && (!by_feature || of_columns))
      return apply(joined(given, by_template), banks_.joined(slot, dtype_));
    return sum(slot, x, by_template, apply);
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
    shape[static_cast<std::size_t>(features_of(x))] = width;
    std::vector<at::Tensor> by_template;
    for (const at::Tensor& column : at::stack(rows).unbind(2)) by_template.push_back(column.contiguous().view(shape));
    return by_template;
  }

  /// [c_1 x, c_2 x, ...] along the features.
  at::Tensor joined(const at::Tensor& x, const std::vector<at::Tensor>& scales) const {
    const std::int64_t axis = features_of(x), width = x.size(axis);
    std::vector<std::int64_t> shape = x.sizes().vec();
    shape[static_cast<std::size_t>(axis)] = width * static_cast<std::int64_t>(scales.size());
    at::Tensor out = at::empty(shape, x.options().dtype(dtype_), x.suggest_memory_format());
    for (std::size_t i = 0; i < scales.size(); ++i) {
      at::Tensor part = out.narrow(axis, static_cast<std::int64_t>(i) * width, width);
      at::mul_out(part, x, scales[i]);  // coefficients keep their precision
    }
    return out;
  }

  at::Tensor sum(const Slot& slot, const at::Tensor& x, const std::vector<at::Tensor>& scales, const Apply& apply) {
    const at::Tensor offset = banks_.offset(slot, x, apply);
    at::Tensor y, offsets;  // sum of scaled products; how often the offset is in it
    for (std::size_t i = 0; i < scales.size(); ++i) {
      if (!scales[i].any().item<bool>()) continue;
      const at::Tensor product = apply(x, banks_.at(slot, static_cast<std::int64_t>(i), dtype_));
      const at::Tensor scale = scales[i].to(product.scalar_type());
      y = y.defined() ? y.addcmul_(product, scale) : product * scale;
      offsets = offsets.defined() ? offsets + scales[i] : scales[i];
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

at::Tensor TemplateBanks::joined(const Slot& slot, at::ScalarType dtype) {
  const std::lock_guard lock(mutex_);
  at::Tensor& kept = joined_[{slot.bank.const_data_ptr(), dtype}];
  if (!kept.defined()) kept = at::cat(slot.bank.unbind(0), 1).to(dtype);
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
