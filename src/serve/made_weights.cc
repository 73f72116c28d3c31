#include "made_weights.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "recast/method/slot_weight.h"

namespace recast {
namespace {

using Weights = std::map<std::string, at::Tensor, std::less<>>;

class MadeRoute final : public Route {
 public:
  MadeRoute(Route& route, const Weights& weights, at::ScalarType dtype)
      : route_(route), weights_(weights), dtype_(dtype) {}
  at::Tensor product(const Slot& slot, const at::Tensor& x, const Apply& apply) override {
    const auto made = weights_.find(slot.name);
    return made == weights_.end() ? route_.product(slot, x, apply) : apply(x.to(dtype_), made->second);
  }
  at::Tensor call(const Slot& slot, const at::Tensor& x, const Next& next) override {
    return route_.call(slot, x, next);
  }
  at::Tensor value(const Slot& slot, const at::Tensor& own) override { return route_.value(slot, own); }

 private:
  Route& route_;
  const Weights& weights_;
  const at::ScalarType dtype_;
};

/// Another backbone with some weights of its own in front of whatever its route would do with them.
class MadeBackbone final : public Backbone {
 public:
  MadeBackbone(std::shared_ptr<const Backbone> inner, Weights weights, at::ScalarType dtype)
      : inner_(std::move(inner)), weights_(std::move(weights)), dtype_(dtype) {}
  const Anatomy& anatomy() const override { return inner_->anatomy(); }
  std::int64_t feature_width() const override { return inner_->feature_width(); }
  at::Tensor weight(const Slot& slot) const override { return inner_->weight(slot); }
  at::Tensor features(const at::Tensor& input, Route& route) const override {
    MadeRoute made(route, weights_, dtype_);
    return inner_->features(input, made);
  }

 private:
  const std::shared_ptr<const Backbone> inner_;
  const Weights weights_;
  const at::ScalarType dtype_;
};

bool is_made(const Model& model, const Slot& slot) {
  return slot.kind == SlotKind::kWeight && !model.recipe().weight_rules(slot.name).empty();
}

}  // namespace

bool makes_weights(const Model& model) {
  for (const Slot& slot : model.backbone().anatomy().slots)
    if (is_made(model, slot)) return true;
  return false;
}

MadeModel with_made_weights(const Model& model, at::ScalarType dtype) {
  const at::NoGradGuard no_grad;
  Weights weights;
  std::int64_t bytes = 0;
  for (const Slot& slot : model.backbone().anatomy().slots) {
    if (!is_made(model, slot)) continue;
    const at::Tensor made = slot_weight(model, slot.name).to(dtype).contiguous();
    bytes += static_cast<std::int64_t>(made.nbytes());
    weights[slot.name] = made;
  }
  auto backbone = std::make_shared<MadeBackbone>(model.shared_backbone(), std::move(weights), dtype);
  return {Model(std::move(backbone), model.shared_recipe(), model.numbers()), bytes};
}

}  // namespace recast
