#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>

#include "recast/format/onnx_graph.h"
#include "recast/model/anatomy.h"
#include "recast/model/config.h"

namespace recast {

/// What Route is to a forward pass, in a graph: how a drawn network reaches whatever acts on its slots. Values of the
/// graph go by name; N is the batch, of any size.
class OnnxRoute {
 public:
  using Next = std::function<std::string(const std::string&)>;
  virtual ~OnnxRoute() = default;
  /// x [N, tokens, in] to x W^T [N, tokens, out], the slot's weight W taken as a matrix [out, all else]; no bias.
  virtual std::string matrix_product(const Slot& slot, const std::string& x, std::int64_t tokens) = 0;
  /// x [N, channels, height, width] through the slot's kernel. `attributes`: those of the operator Conv.
  virtual std::string convolution(const Slot& slot, const std::string& x, const OnnxGraph::Attributes& attributes) = 0;
  /// The effective number of a kVector slot, fp32.
  virtual at::Tensor value(const Slot& slot) = 0;
  /// Around each activation, norm and feature slot.
  virtual std::string call(const Slot& slot, const std::string& x, const Next& next) { return next(x); }
};

/// Draws a network from `image` [N, 3, side_px, side_px] fp32, normalised pixels, to the features [N, D], whose name it
/// returns: operator for operator what Backbone::features() does. `anatomy`: of a backbone with this network.
/// Throws kShapeMismatch: the side does not fit, the nearest that do are named.
std::string draw_features(OnnxGraph& graph, const Network& network, const Anatomy& anatomy, std::int64_t side_px,
                          const std::string& image, OnnxRoute& route);

}  // namespace recast
