// A convolutional network as ONNX operators: cnn.cc line by line. Sizes are constants but for the batch N.
#include <ATen/ATen.h>

#include <algorithm>

#include "cnn.h"
#include "onnx_draw.h"
#include "recast/base/error.h"

namespace recast {
namespace {

/// A map of the network [N, C, side, side].
struct Map {
  std::string name;
  std::int64_t side;
};

class CnnDrawing {
 public:
  CnnDrawing(OnnxGraph& graph, const CnnConfig& cnn, const Anatomy& anatomy, OnnxRoute& route)
      : graph_(graph), cnn_(cnn), anatomy_(anatomy), route_(route) {}

  std::string features(const std::string& image, std::int64_t side_px) {
    const CnnPlan plan = plan_of(cnn_);
    Map x = conv(plan.stem, {image, side_px});
    if (cnn_.stem_pool) x = max_pool(x);
    for (const BlockPlan& each : plan.blocks) {
      const Map in = x;
      x.name = route_.call(anatomy_.at(each.slot), in.name, [&](const std::string& t) {
        const Map out = block(each, {t, in.side});
        x.side = out.side;
        return out.name;
      });
    }
    if (plan.head) x = conv(*plan.head, x);
    const std::string average =
        graph_.node("ReduceMean", {x.name}, {{"axes", std::vector<std::int64_t>{2, 3}}, {"keepdims", std::int64_t{0}}});
    return route_.call(anatomy_.slots.back(), average, [](const std::string& t) { return t; });
  }

 private:
  std::string vector(const std::string& name) { return graph_.tensor(name, route_.value(anatomy_.at(name))); }

  std::string activate(const std::string& x) {
    if (cnn_.activation != "relu6") return graph_.node("Relu", {x});
    return graph_.node("Clip", {x, graph_.tensor("zero", at::scalar_tensor(0, at::kFloat)),
                                graph_.tensor("six", at::scalar_tensor(6, at::kFloat))});
  }

  Map max_pool(const Map& x) {
    const std::vector<std::int64_t> three = {3, 3}, two = {2, 2}, one = {1, 1, 1, 1};
    return {graph_.node("MaxPool", {x.name}, {{"kernel_shape", three}, {"strides", two}, {"pads", one}}),
            (x.side - 1) / 2 + 1};
  }

  /// Convolution, norm and, where the plan says so, activation.
  Map conv(const ConvPlan& plan, const Map& x) {
    const std::int64_t k = plan.kernel, s = plan.stride;
    std::int64_t before = k / 2, after = k / 2;
    if (cnn_.padding == "same") {
      const std::int64_t all = std::max<std::int64_t>(((x.side + s - 1) / s - 1) * s + k - x.side, 0);
      before = all / 2;
      after = all - before;
    }
    const std::string y = route_.convolution(anatomy_.at(plan.slot), x.name,
                                             {{"kernel_shape", std::vector<std::int64_t>{k, k}},
                                              {"strides", std::vector<std::int64_t>{s, s}},
                                              {"pads", std::vector<std::int64_t>{before, before, after, after}},
                                              {"group", plan.groups}});
    const std::string normed = route_.call(anatomy_.at(plan.norm), y, [&](const std::string& t) {
      return graph_.node("BatchNormalization",
                         {t, vector(plan.norm + ".weight"), vector(plan.norm + ".bias"),
                          vector(plan.norm + ".running_mean"), vector(plan.norm + ".running_var")},
                         {{"epsilon", cnn_.norm_eps}});
    });
    return {plan.activated ? activate(normed) : normed, (x.side + before + after - k) / s + 1};
  }

  Map block(const BlockPlan& plan, const Map& x) {
    Map y = x;
    for (const ConvPlan& each : plan.convs) y = conv(each, y);
    if (plan.shortcut != BlockPlan::Shortcut::kNone) y.name = graph_.node("Add", {y.name, shortcut(plan, x)});
    if (plan.activated) y.name = activate(y.name);
    return y;
  }

  std::string shortcut(const BlockPlan& plan, const Map& x) {
    if (plan.projection) return conv(*plan.projection, x).name;
    if (plan.shortcut == BlockPlan::Shortcut::kIdentity) return x.name;
    const std::int64_t s = plan.stride, more = plan.channels - plan.in;
    std::string kept = x.name;
    if (s > 1)
      kept = graph_.node("Slice", {kept, graph_.numbers({0, 0}), graph_.numbers({x.side, x.side}),
                                   graph_.numbers({2, 3}), graph_.numbers({s, s})});
    return graph_.node("Pad", {kept, graph_.numbers({0, more / 2, 0, 0, 0, more - more / 2, 0, 0})});
  }

  OnnxGraph& graph_;
  const CnnConfig& cnn_;
  const Anatomy& anatomy_;
  OnnxRoute& route_;
};

}  // namespace

std::string draw_cnn(OnnxGraph& graph, const CnnConfig& cnn, const Anatomy& anatomy, std::int64_t side_px,
                     const std::string& image, OnnxRoute& route) {
  if (side_px < total_stride(cnn))
    fail(Code::kShapeMismatch, "[onnx] images of {} pixels do not fit, sides must be at least {}", side_px,
         total_stride(cnn));
  return CnnDrawing(graph, cnn, anatomy, route).features(image, side_px);
}

std::string draw_features(OnnxGraph& graph, const Network& network, const Anatomy& anatomy, std::int64_t side_px,
                          const std::string& image, OnnxRoute& route) {
  if (const auto* vit = std::get_if<VitConfig>(&network)) return draw_vit(graph, *vit, anatomy, side_px, image, route);
  return draw_cnn(graph, std::get<CnnConfig>(network), anatomy, side_px, image, route);
}

}  // namespace recast
