#pragma once
// Routes through a bare backbone that look on, put something in or cast.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "recast/base/key.h"
#include "recast/model/backbone.h"

namespace recast {

/// Uses `replacement` for one weight slot, and the backbone's own weights for all others.
class ReplacingRoute : public PlainRoute {
 public:
  ReplacingRoute(const Backbone& backbone, std::string slot, at::Tensor replacement)
      : PlainRoute(backbone), slot_(std::move(slot)), replacement_(std::move(replacement)) {}
  at::Tensor product(const Slot& slot, const at::Tensor& x, const Apply& apply) override {
    return slot.name == slot_ ? apply(x, replacement_) : PlainRoute::product(slot, x, apply);
  }
  at::Tensor value(const Slot& slot, const at::Tensor& own) override { return slot.name == slot_ ? replacement_ : own; }

 private:
  std::string slot_;
  at::Tensor replacement_;
};

/// Runs every product in bf16, as a route with mixed precision does.
class Bf16Route : public PlainRoute {
 public:
  explicit Bf16Route(const Backbone& backbone) : PlainRoute(backbone) {}
  at::Tensor product(const Slot& slot, const at::Tensor& x, const Apply& apply) override {
    const auto cast = [&](const at::Tensor& t, const at::Tensor& w) {
      return apply(t.to(at::kBFloat16), w.to(at::kBFloat16));
    };
    const at::Tensor y = PlainRoute::product(slot, x, cast);
    EXPECT_EQ(y.scalar_type(), at::kBFloat16) << slot.name;
    return y;
  }
};

/// Notes every slot that the backbone passes.
class RecordingRoute : public PlainRoute {
 public:
  explicit RecordingRoute(const Backbone& backbone) : PlainRoute(backbone) {}
  at::Tensor product(const Slot& slot, const at::Tensor& x, const Apply& apply) override {
    seen.push_back(slot.name);
    inputs[slot.name] = x;
    return PlainRoute::product(slot, x, apply);
  }
  at::Tensor call(const Slot& slot, const at::Tensor& x, const Next& next) override {
    seen.push_back(slot.name);
    inputs[slot.name] = x;
    return next(x);
  }
  at::Tensor value(const Slot& slot, const at::Tensor& own) override {
    vectors.push_back(slot.name);
    EXPECT_EQ(own.sizes(), at::IntArrayRef(slot.shape)) << slot.name;
    return own;
  }
  std::vector<std::string> seen, vectors;
  std::map<std::string, at::Tensor> inputs;
};

/// How far two ways to a derivative may differ, and the size of the step of the second.
struct GradientTolerance {
  double step, relative, absolute;
};

/// In double: the gradient of every weight and vector slot along a direction against differences.
inline void expect_gradients_of_differences(const Backbone& backbone, const at::Tensor& images,
                                            const GradientTolerance& tolerance) {
  const at::Tensor direction = Key(3).normal({images.size(0), backbone.feature_width()}).to(at::kDouble);
  for (const Slot& slot : backbone.anatomy().slots) {
    if (slot.kind != SlotKind::kWeight && slot.kind != SlotKind::kVector) continue;
    const auto loss = [&](const at::Tensor& weight) {
      ReplacingRoute route(backbone, slot.name, weight);
      return (backbone.features(images, route) * direction).sum();
    };
    const at::Tensor weight = backbone.weight(slot).to(at::kDouble).set_requires_grad(true);
    loss(weight).backward();
    const at::Tensor step = Key(4).fold(slot.name).normal(weight.sizes()).to(at::kDouble) * tolerance.step;
    const c10::NoGradGuard no_grad;
    const double numeric = (loss(weight + step) - loss(weight - step)).item<double>() / 2;
    const double analytic = (weight.grad() * step).sum().item<double>();
    EXPECT_NEAR(analytic, numeric, tolerance.relative * std::abs(numeric) + tolerance.absolute) << slot.name;
  }
}

}  // namespace recast
