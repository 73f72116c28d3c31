#include "slot_weights.h"

#include <ATen/ATen.h>

#include "recast/base/error.h"

namespace recast {
namespace {

/// W = (1/K) sum_k sum_i c[k,i] T_i of a covered slot. Equal sets average to themselves and templates of coefficient
/// zero are left out, so one-hot coefficients give a template's own bits, the sign of zero included.
at::Tensor rebuild(const at::Tensor& templates, const at::Tensor& coefficients) {
  const at::Tensor mean = coefficients.to(at::kCPU, at::kDouble).mean(0).to(at::kFloat);
  at::Tensor weight;
  for (std::int64_t i = 0; i < mean.size(0); ++i) {
    const float c = mean[i].item<float>();
    if (c == 0) continue;
    weight = weight.defined() ? at::add(weight, templates[i], c) : templates[i] * c;
  }
  return weight.defined() ? weight : at::zeros_like(templates[0]);
}

}  // namespace

at::Tensor value(const Vector& vector, at::ScalarType dtype, Route& route) {
  return vector.slot == nullptr ? at::Tensor() : route.value(*vector.slot, vector.own).to(dtype);
}

SlotWeights::SlotWeights(Anatomy anatomy, const ModelFiles& files, at::Device device) : anatomy_(std::move(anatomy)) {
  cover(files, device);
  take(files, device);
}

void SlotWeights::cover(const ModelFiles& files, at::Device device) {
  for (std::size_t g = 0; g < files.config.bank.members.size(); ++g) {
    const BankConfig::Group& group = files.config.bank.members[g];
    const at::Tensor templates = files.bank.find(group.name + ".templates")->second.detach().to(device);
    for (const std::string& name : group.slots) {
      Slot& slot = const_cast<Slot&>(anatomy_.at(name));  // ours, and not yet handed out
      slot.group = static_cast<int>(g);
      slot.bank = templates;
      slot.coefficients = files.bank.find(name + ".coefficients")->second.detach().to(device);
    }
  }
}

void SlotWeights::take(const ModelFiles& files, at::Device device) {
  for (const Slot& slot : anatomy_.slots) {
    if (slot.kind != SlotKind::kWeight && slot.kind != SlotKind::kVector) continue;
    const std::string name = slot.kind == SlotKind::kWeight ? slot.name + ".weight" : slot.name;
    Weight& weight = weights_[slot.name];
    if (slot.group < 0) weight.own = files.backbone.find(name)->second.detach().to(device);
  }
}

Vector SlotWeights::vector(const std::string& name) const {
  const Slot* slot = anatomy_.find(name);
  return slot == nullptr ? Vector() : Vector{slot, weights_.at(name).own};
}

at::Tensor SlotWeights::weight(const Slot& slot) const {
  const auto found = weights_.find(slot.name);
  if (found == weights_.end()) {
    fail(Code::kInvalidArgument, "[model] {} is no weight or vector slot of this backbone", slot.name);
  }
  Weight& weight = found->second;
  std::call_once(weight.once, [&] {
    if (weight.own.defined()) return;
    const Slot& own_slot = anatomy_.at(slot.name);
    weight.own = make_lasting([&] { return rebuild(own_slot.bank, own_slot.coefficients); });
  });
  return weight.own;
}

at::Tensor SlotWeights::cast(const Slot& slot, const at::Tensor& weight, at::ScalarType dtype) const {
  if (dtype != at::kBFloat16 || slot.group >= 0) return weight;
  Weight& kept = weights_.at(slot.name);
  if (!weight.is_same(kept.own)) return weight;
  std::call_once(kept.bf16_once, [&] { kept.bf16 = make_lasting([&] { return kept.own.to(at::kBFloat16); }); });
  return kept.bf16;
}

}  // namespace recast
