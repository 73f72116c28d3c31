// A vision transformer as ONNX operators: vit.cc line by line. Sizes are constants but for the batch N.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>

#include "onnx_draw.h"
#include "recast/base/error.h"
#include "vit.h"

namespace recast {
namespace {

class VitDrawing {
 public:
  VitDrawing(OnnxGraph& graph, const VitConfig& vit, const Anatomy& anatomy, OnnxRoute& route)
      : graph_(graph), vit_(vit), anatomy_(anatomy), route_(route) {}

  std::string features(const std::string& image, std::int64_t side_px) {
    std::string x = embed(image, side_px / vit_.patch_px);
    for (std::int64_t n = 0; n < vit_.depth; ++n)
      x = route_.call(slot(n, ""), x, [&](const std::string& t) { return block(n, t); });
    x = pool(norm("norm", x));
    return route_.call(anatomy_.slots.back(), x, [](const std::string& t) { return t; });
  }

 private:
  const Slot& slot(std::int64_t n, std::string_view role) const { return anatomy_.at(block_name(n, role)); }
  at::Tensor own(const std::string& name) { return route_.value(anatomy_.at(name)); }
  std::string vector(const std::string& name) { return graph_.tensor(name, own(name)); }
  std::string number(const char* name, double value) {
    return graph_.tensor(name, at::scalar_tensor(value, at::kFloat));
  }

  std::string product(const std::string& name, const std::string& x) {
    const std::string y = route_.matrix_product(anatomy_.at(name), x, tokens_);
    return anatomy_.find(name + ".bias") ? graph_.node("Add", {y, vector(name + ".bias")}) : y;
  }

  std::string norm(const std::string& name, const std::string& x) {
    return route_.call(anatomy_.at(name), x, [&](const std::string& t) {
      return graph_.node("LayerNormalization", {t, vector(name + ".weight"), vector(name + ".bias")},
                         {{"axis", std::int64_t{-1}}, {"epsilon", vit_.norm_eps}});
    });
  }

  /// [N, 3, S, S] to tokens [N, T, D].
  std::string embed(const std::string& image, std::int64_t grid) {
    const std::int64_t p = vit_.patch_px;
    tokens_ = grid * grid;
    const std::string cut = graph_.node("Reshape", {image, graph_.numbers({0, 3, grid, p, grid, p})});
    const std::string apart = graph_.node("Transpose", {cut}, {{"perm", std::vector<std::int64_t>{0, 2, 4, 1, 3, 5}}});
    const std::string patches = graph_.node("Reshape", {apart, graph_.numbers({0, grid * grid, 3 * p * p})});
    const std::string rows = graph_.tensor("position_rows", position_rows(vit_, own("positions"), grid, grid));
    const std::string embedded = graph_.node("Add", {product("patch_embed", patches), rows});
    const at::Tensor first = prefix();
    tokens_ += first.size(0);
    if (first.size(0) == 0) return embedded;
    const std::string batch = graph_.node("Shape", {image}, {{"start", std::int64_t{0}}, {"end", std::int64_t{1}}});
    const std::string shape =
        graph_.node("Concat", {batch, graph_.numbers({first.size(0), vit_.width})}, {{"axis", std::int64_t{0}}});
    const std::string each = graph_.node("Expand", {graph_.tensor("prefix_rows", first.unsqueeze(0)), shape});
    return graph_.node("Concat", {each, embedded}, {{"axis", std::int64_t{1}}});
  }

  /// Class and register tokens [R, D], the same for every image.
  at::Tensor prefix() {
    std::vector<at::Tensor> rows = {at::empty({0, vit_.width})};
    if (vit_.class_token) {
      const at::Tensor token = own("class_token");
      rows.push_back((vit_.class_position ? token + own("class_position") : token).unsqueeze(0));
    }
    if (vit_.register_tokens > 0) rows.push_back(own("register_tokens"));
    return at::cat(rows);
  }

  std::string block(std::int64_t n, const std::string& x) {
    const auto scaled = [&](const std::string& y, const char* role) {
      return vit_.layer_scale ? graph_.node("Mul", {y, vector(block_name(n, role))}) : y;
    };
    const std::string attended = route_.call(slot(n, "attn"), norm(block_name(n, "norm1"), x),
                                             [&](const std::string& t) { return attention(n, t); });
    const std::string middle = graph_.node("Add", {x, scaled(attended, "attn.scale")});
    const std::string widened = route_.call(slot(n, "mlp"), norm(block_name(n, "norm2"), middle),
                                            [&](const std::string& t) { return mlp(n, t); });
    return graph_.node("Add", {middle, scaled(widened, "mlp.scale")});
  }

  std::string attention(std::int64_t n, const std::string& x) {
    const std::int64_t D = vit_.width, H = vit_.heads;
    const auto parts = graph_.nodes("Split", {product(block_name(n, "attn.qkv"), x), graph_.numbers({D, D, D})}, 3,
                                    {{"axis", std::int64_t{2}}});
    const auto heads = [&](const std::string& part, std::vector<std::int64_t> order) {
      const std::string apart = graph_.node("Reshape", {part, graph_.numbers({0, tokens_, H, D / H})});
      return graph_.node("Transpose", {apart}, {{"perm", std::move(order)}});
    };
    const std::string q = graph_.node(
        "Mul", {heads(parts[0], {0, 2, 1, 3}), number("attention_scale", 1 / std::sqrt(static_cast<double>(D / H)))});
    const std::string scores = graph_.node("MatMul", {q, heads(parts[1], {0, 2, 3, 1})});
    const std::string shares = graph_.node("Softmax", {scores}, {{"axis", std::int64_t{-1}}});
    const std::string mixed = graph_.node("MatMul", {shares, heads(parts[2], {0, 2, 1, 3})});
    const std::string together = graph_.node("Transpose", {mixed}, {{"perm", std::vector<std::int64_t>{0, 2, 1, 3}}});
    return product(block_name(n, "attn.proj"), graph_.node("Reshape", {together, graph_.numbers({0, tokens_, D})}));
  }

  /// GELU by erf, in the operators that runtimes know to fuse.
  std::string mlp(std::int64_t n, const std::string& x) {
    const std::string wide = product(block_name(n, "mlp.fc1"), x);
    const std::string erf = graph_.node("Erf", {graph_.node("Div", {wide, number("sqrt_two", std::sqrt(2.0))})});
    const std::string gate = graph_.node("Add", {erf, number("one", 1)});
    const std::string bent = graph_.node("Mul", {graph_.node("Mul", {wide, gate}), number("half", 0.5)});
    return product(block_name(n, "mlp.fc2"), bent);
  }

  std::string pool(const std::string& tokens) {
    const auto token = [&] {
      return graph_.node("Gather", {tokens, graph_.tensor("first", at::scalar_tensor(0, at::kLong))},
                         {{"axis", std::int64_t{1}}});
    };
    if (vit_.pooling == "token") return token();
    const std::int64_t first = (vit_.class_token ? 1 : 0) + vit_.register_tokens;
    const std::string patches =
        graph_.node("Slice", {tokens, graph_.numbers({first}), graph_.numbers({tokens_}), graph_.numbers({1})});
    const std::string average =
        graph_.node("ReduceMean", {patches}, {{"axes", std::vector<std::int64_t>{1}}, {"keepdims", std::int64_t{0}}});
    if (vit_.pooling == "average") return average;
    return graph_.node("Concat", {token(), average}, {{"axis", std::int64_t{1}}});
  }

  OnnxGraph& graph_;
  const VitConfig& vit_;
  const Anatomy& anatomy_;
  OnnxRoute& route_;
  std::int64_t tokens_ = 0;  ///< of what goes through the network: patches, then T
};

}  // namespace

std::string draw_vit(OnnxGraph& graph, const VitConfig& vit, const Anatomy& anatomy, std::int64_t side_px,
                     const std::string& image, OnnxRoute& route) {
  const std::int64_t below = side_px / vit.patch_px * vit.patch_px;
  if (side_px < 1 || side_px != below)
    fail(Code::kShapeMismatch,
         "[onnx] images of {} pixels do not fit, sides must be multiples of the patch size {}: "
         "take {}{}",
         side_px, vit.patch_px, below > 0 ? fmt::format("{} or ", below) : "", below + vit.patch_px);
  return VitDrawing(graph, vit, anatomy, route).features(image, side_px);
}

}  // namespace recast
