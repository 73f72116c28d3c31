#include "recast/method/model.h"

#include <ATen/ATen.h>

#include <set>

#include "forward_pass.h"

namespace recast {
namespace {

Batch select_rows(const Batch& batch, const at::Tensor& rows) {
  Batch slice{{}, rows.numel()};
  for (const auto& [name, column] : batch.at) slice.at[name] = column.index_select(0, rows);
  return slice;
}

/// The rows of each distinct value of a column, in ascending order of the value.
std::vector<at::Tensor> split_rows(const at::Tensor& column) {
  const auto [values, inverse, counts] = at::_unique2(column, true, true);
  std::vector<at::Tensor> groups;
  for (std::int64_t v = 0; v < values.numel(); ++v) groups.push_back(inverse.eq(v).nonzero().flatten());
  return groups;
}

}  // namespace

const at::Tensor& Batch::column(std::string_view name) const {
  const auto found = at.find(name);
  if (found != at.end()) return found->second;
  std::string names;
  for (const auto& [known, tensor] : at) names += (names.empty() ? "" : ", ") + known;
  fail(Code::kNotFound, "[batch] no column '{}' among: {}", name, names);
}

Model::Model(std::shared_ptr<const Backbone> backbone, std::shared_ptr<const Composition> recipe, Numbers numbers)
    : backbone_(std::move(backbone)), recipe_(std::move(recipe)), numbers_(std::move(numbers)) {}

Fields Model::forward_slice(const Batch& batch, const Run& run, bool heads) const {
  ForwardPass pass(*backbone_, *recipe_, numbers_, batch, run);
  return pass.run(heads);
}

Fields Model::forward_slices(const Batch& batch, const Run& run, bool heads) const {
  for (const std::string& column : recipe_->varies_by()) {
    if (!batch.has(column)) continue;
    const std::vector<at::Tensor> groups = split_rows(batch.column(column));
    if (groups.size() < 2) continue;
    std::map<std::string, std::vector<at::Tensor>> parts;
    for (const at::Tensor& rows : groups)
      for (auto& [name, tensor] : forward_slices(select_rows(batch, rows), run, heads)) parts[name].push_back(tensor);
    const at::Tensor order = at::cat(groups);
    Fields out;
    for (auto& [name, tensors] : parts) {
      const at::Tensor joined = at::cat(tensors);
      out[name] = at::empty_like(joined).index_copy(0, order, joined);
    }
    return out;
  }
  return forward_slice(batch, run, heads);
}

Fields Model::forward(const Batch& batch, const Run& run) const { return forward_slices(batch, run, true); }

Fields Model::inputs_of_heads(const Batch& batch, const Run& run) const { return forward_slices(batch, run, false); }

at::Tensor Model::features(const Batch& batch, const Run& run) const {
  return inputs_of_heads(batch, run).at("features");
}

Model Model::with(std::string_view plug, const State& numbers) const {
  Model changed = *this;
  const MethodInfo& info = *recipe_->plug(plug).info;
  for (const auto& [name, number] : numbers) {
    const Family* family = info.family(family_of(name));
    if (!family) fail(Code::kInvalidArgument, "[{}] has no family '{}'", plug, family_of(name));
    changed.numbers_.at(plug, family->scope).set(name, number);
  }
  return changed;
}

State Model::weights(const Run& run) const {
  const Batch none;
  ForwardPass pass(*backbone_, *recipe_, numbers_, none, run);
  State weights;
  for (const Slot& slot : backbone_->anatomy().slots)
    if (slot.kind == SlotKind::kWeight || slot.kind == SlotKind::kVector)
      weights.set(slot.name, pass.weight(slot.name));
  return weights;
}

}  // namespace recast
