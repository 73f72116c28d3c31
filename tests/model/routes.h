#pragma once
// Routes through a bare backbone that look on, put something in or cast.
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

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

}  // namespace recast
