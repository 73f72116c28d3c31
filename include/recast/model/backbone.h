#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <string_view>

#include "recast/model/anatomy.h"

namespace recast {

/// How a backbone reaches whatever acts on its slots. A backbone calls product() for each weight slot and call() around
/// each activation and norm slot, takes every other parameter (bias, gain, token, position: kVector slots) through
/// value(), and knows nothing of plug-ins.
class Route {
 public:
  using Next = std::function<at::Tensor(const at::Tensor&)>;
  /// The backbone's own operation on an input and an effective weight: a linear map, a convolution.
  using Apply = std::function<at::Tensor(const at::Tensor& x, const at::Tensor& weight)>;
  virtual ~Route() = default;
  virtual at::Tensor product(const Slot& slot, const at::Tensor& x, const Apply& apply) = 0;
  virtual at::Tensor call(const Slot& slot, const at::Tensor& x, const Next& next) = 0;
  /// The effective value of a kVector slot, given the backbone's own.
  virtual at::Tensor value(const Slot& slot, const at::Tensor& own) { return own; }
};

/// A frozen pretrained network. Const to its users: what is made at first use (rebuilt weights, resampled positions) is
/// guarded, so all calls may run in parallel.
class Backbone {
 public:
  virtual ~Backbone() = default;
  virtual const Anatomy& anatomy() const = 0;
  /// D, width of the feature slot.
  virtual std::int64_t feature_width() const = 0;
  /// The backbone's own number of a kWeight or kVector slot, in fp32, rebuilt from templates where a bank covers it.
  /// Not to be written. Where plug-ins replace the weight of a covered slot the rebuilt copy is never made.
  virtual at::Tensor weight(const Slot& slot) const = 0;
  /// input [B, 3, height, width], normalised pixels in any floating dtype, to features [B, D] in fp32 (fp64 for fp64).
  /// The residual stream and the norms stay in that dtype; a route that casts x and weight makes a product, and the
  /// attention or GELU after it, run in bf16 (a convolution's result goes into its norm in the stream's dtype). An
  /// operation given to product() casts its bias and its weight to the dtype of x. Differentiable in the input and in
  /// what the route puts in. Throws kShapeMismatch where the input's size does not fit, naming the nearest that do.
  virtual at::Tensor features(const at::Tensor& input, Route& route) const = 0;
};

/// The route of the bare backbone: its own weights, nothing in between.
class PlainRoute : public Route {
 public:
  explicit PlainRoute(const Backbone& backbone) : backbone_(backbone) {}
  at::Tensor product(const Slot& slot, const at::Tensor& x, const Apply& apply) override;
  at::Tensor call(const Slot& slot, const at::Tensor& x, const Next& next) override { return next(x); }

 private:
  const Backbone& backbone_;
};

}  // namespace recast
