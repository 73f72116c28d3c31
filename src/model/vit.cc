// Vision transformer. Dosovitskiy et al., ICLR 2021, arXiv:2010.11929; LayerScale: Touvron et al., ICCV 2021,
// arXiv:2103.17239; register tokens: Darcet et al., ICLR 2024, arXiv:2309.16588.
// Shapes: B batch, T tokens (class, registers, patches), D width, H heads, N patches, p patch side in pixels.
#include "vit.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "attention.h"
#include "images.h"
#include "linear.h"
#include "recast/base/error.h"
#include "recast/model/sum_features.h"
#include "slot_weights.h"
#include "vit_pass.h"

namespace recast {
namespace {

struct Norm {
  const Slot* slot = nullptr;
  Vector gain, bias;
};

struct Product {
  const Slot* slot = nullptr;
  Vector bias;
};

struct Block {
  const Slot *whole, *attn, *mlp;
  Norm norm1, norm2;
  Product qkv, proj, fc1, fc2;
  Vector attn_scale, mlp_scale;
};

class Vit final : public Backbone, public SumFeatures, public std::enable_shared_from_this<Vit> {
 public:
  Vit(const ModelFiles& files, at::Device device);

  const Anatomy& anatomy() const override { return slots_.anatomy(); }
  std::int64_t feature_width() const override { return anatomy().slots.back().shape[0]; }
  at::Tensor weight(const Slot& slot) const override { return slots_.weight(slot); }
  at::Tensor features(const at::Tensor& input, Route& route) const override;
  std::string why_no_sum_features(const at::Tensor& input, const BankSums& sums, at::ScalarType dtype) const override;
  at::Tensor sum_features(const at::Tensor& input, const BankSums& sums, at::ScalarType dtype) const override;

 private:
  Norm norm(const std::string& name) const;
  Product product(const std::string& name) const;
  Block block(std::int64_t n) const;
  std::unique_ptr<const VitPass> pass() const;

  void check_input(const at::Tensor& input) const;
  at::Tensor run_product(const Product& product, const at::Tensor& x, Route& route) const;
  at::Tensor embed(const at::Tensor& input, Route& route) const;
  at::Tensor positions(std::int64_t rows, std::int64_t columns, Route& route) const;
  at::Tensor kept_positions(std::int64_t rows, std::int64_t columns) const;
  at::Tensor run_block(const Block& block, const at::Tensor& x, Route& route) const;
  at::Tensor run_norm(const Norm& norm, const at::Tensor& x, Route& route) const;
  at::Tensor attention(const Block& block, const at::Tensor& x, Route& route) const;
  at::Tensor mlp(const Block& block, const at::Tensor& x, Route& route) const;
  at::Tensor pool(const at::Tensor& tokens) const;

  // Constant after construction.
  const VitConfig config_;
  const SlotWeights slots_;
  Product patch_embed_;
  Vector class_token_, class_position_, register_tokens_, grid_;  // grid_ is "positions" [g, g, D]
  std::vector<Block> blocks_;
  Norm norm_;
  std::unique_ptr<const VitPass> pass_;  // null: not on this device

  // Made at first use.
  mutable std::mutex positions_mutex_;
  mutable std::map<std::pair<std::int64_t, std::int64_t>, at::Tensor> positions_;  // guarded by positions_mutex_
};

/// Input sizes whose positions are kept: enough for any sane use, few enough for a server that is sent all sizes.
constexpr std::size_t kKeptPositionSizes = 16;

Vit::Vit(const ModelFiles& files, at::Device device)
    : config_(files.config.vit()), slots_(vit_anatomy(config_), files, device) {
  patch_embed_ = product("patch_embed");
  class_token_ = slots_.vector("class_token");
  class_position_ = slots_.vector("class_position");
  register_tokens_ = slots_.vector("register_tokens");
  grid_ = slots_.vector("positions");
  for (std::int64_t n = 0; n < config_.depth; ++n) blocks_.push_back(block(n));
  norm_ = norm("norm");
  if (device.is_cpu()) pass_ = pass();
}

Norm Vit::norm(const std::string& name) const {
  return {&anatomy().at(name), slots_.vector(name + ".weight"), slots_.vector(name + ".bias")};
}

Product Vit::product(const std::string& name) const { return {&anatomy().at(name), slots_.vector(name + ".bias")}; }

Block Vit::block(std::int64_t n) const {
  const auto name = [n](std::string_view role) { return block_name(n, role); };
  return {.whole = &anatomy().at(name("")),
          .attn = &anatomy().at(name("attn")),
          .mlp = &anatomy().at(name("mlp")),
          .norm1 = norm(name("norm1")),
          .norm2 = norm(name("norm2")),
          .qkv = product(name("attn.qkv")),
          .proj = product(name("attn.proj")),
          .fc1 = product(name("mlp.fc1")),
          .fc2 = product(name("mlp.fc2")),
          .attn_scale = slots_.vector(name("attn.scale")),
          .mlp_scale = slots_.vector(name("mlp.scale"))};
}

at::Tensor Vit::features(const at::Tensor& input, Route& route) const {
  check_input(input);
  at::Tensor x = embed(input, route);
  for (const Block& block : blocks_) {
    x = route.call(*block.whole, x, [&](const at::Tensor& t) { return run_block(block, t, route); });
  }
  x = pool(run_norm(norm_, x, route));
  return route.call(anatomy().slots.back(), x, [](const at::Tensor& t) { return t; });
}

/// The numbers of the network as a pass takes them.
std::unique_ptr<const VitPass> Vit::pass() const {
  const auto number = [](const Vector& vector) {
    return vector.slot == nullptr ? at::Tensor() : vector.own.to(at::kFloat).contiguous();
  };
  const auto norm = [&](const Norm& own) { return VitPass::Norm{number(own.gain), number(own.bias)}; };
  const auto matrix = [&](const Product& own) { return VitPass::Matrix{own.slot, number(own.bias)}; };
  std::vector<VitPass::Block> blocks;
  for (const Block& own : blocks_)
    blocks.push_back({norm(own.norm1), norm(own.norm2), matrix(own.qkv), matrix(own.proj), matrix(own.fc1),
                      matrix(own.fc2), number(own.attn_scale), number(own.mlp_scale)});
  return std::make_unique<const VitPass>(config_, std::move(blocks), norm(norm_),
                                         [this](const Slot& slot) { return weight(slot); });
}

std::string Vit::why_no_sum_features(const at::Tensor& input, const BankSums& sums, at::ScalarType dtype) const {
  if (!pass_) return "the network is on another device";
  if (!input.is_cpu() || input.dim() != 4 || input.numel() == 0 || !input.is_floating_point() ||
      input.scalar_type() == at::kDouble)
    return "the input is empty, no image, of fp64 or on another device";
  if (input.requires_grad()) return "a gradient of the input is asked for";
  for (const auto& [name, sum] : sums)
    if (!name.starts_with("blocks.")) return name + " is no matrix of a block";
  return VitPass::why_not(config_, dtype);
}

namespace {

/// The weights are sums of templates where `sums` has them; products in one dtype.
class SumRoute final : public PlainRoute {
 public:
  SumRoute(const Backbone& backbone, const BankSums& sums, at::ScalarType dtype)
      : PlainRoute(backbone), sums_(sums), dtype_(dtype) {}
  at::Tensor product(const Slot& slot, const at::Tensor& x, const Apply& apply) override {
    const auto sum = sums_.find(slot.name);
    if (sum == sums_.end()) return PlainRoute::product(slot, x.to(dtype_), apply);
    return apply(x.to(dtype_), blockwise_sum(slot.bank, sum->second.coefficients, sum->second.blocks));
  }

 private:
  const BankSums& sums_;
  const at::ScalarType dtype_;
};

}  // namespace

at::Tensor Vit::sum_features(const at::Tensor& input, const BankSums& sums, at::ScalarType dtype) const {
  check_input(input);
  const auto again = [self = shared_from_this(), input, dtype](const BankSums& sums) {
    SumRoute route(*self, sums, dtype);
    return self->features(input, route).to(at::kFloat);
  };
  at::Tensor tokens;
  {
    const c10::AutoGradMode no_grad(false);
    SumRoute route(*this, sums, dtype);
    tokens = embed(input, route).to(at::kFloat).contiguous();
  }
  return pass_->features(tokens, sums, dtype, again);
}

void Vit::check_input(const at::Tensor& input) const {
  check_images(input);
  const std::int64_t p = config_.patch_px;
  for (const std::int64_t side : {input.size(2), input.size(3)}) {
    if (side > 0 && side % p == 0) continue;
    const std::int64_t below = side / p * p;
    fail(Code::kShapeMismatch,
         "[model] input is {} x {} pixels, sides must be multiples of the patch size {}: take {}{}", input.size(2),
         input.size(3), p, below > 0 ? fmt::format("{} or ", below) : "", below + p);
  }
}

at::Tensor Vit::run_product(const Product& product, const at::Tensor& x, Route& route) const {
  const Vector& own = product.bias;
  const at::Tensor bias = own.slot == nullptr ? at::Tensor() : route.value(*own.slot, own.own);
  return route.product(*product.slot, x, [&](const at::Tensor& t, const at::Tensor& weight) {
    return linear(t, slots_.cast(*product.slot, weight, t.scalar_type()).flatten(1), bias);
  });
}

at::Tensor Vit::embed(const at::Tensor& input, Route& route) const {
  const std::int64_t B = input.size(0), D = config_.width, p = config_.patch_px;
  const std::int64_t rows = input.size(2) / p, columns = input.size(3) / p;
  const at::ScalarType dtype = stream_dtype(input);
  const at::Tensor patches = input.to(dtype)
                                 .reshape({B, 3, rows, p, columns, p})
                                 .permute({0, 2, 4, 1, 3, 5})
                                 .reshape({B, rows * columns, 3 * p * p});
  std::vector<at::Tensor> tokens;
  const auto add = [&](const at::Tensor& own) {  // [R, D], the same for every image
    if (own.defined()) tokens.push_back(own.expand({B, own.size(0), D}));
  };
  const at::Tensor embedded = run_product(patch_embed_, patches, route);
  const at::Tensor class_row = value(class_token_, dtype, route);
  if (class_row.defined()) {
    const at::Tensor position = value(class_position_, dtype, route);
    add((position.defined() ? class_row + position : class_row).unsqueeze(0));
  }
  add(value(register_tokens_, dtype, route));
  tokens.push_back(embedded + positions(rows, columns, route).to(dtype));
  return at::cat(tokens, 1);
}

at::Tensor Vit::positions(std::int64_t rows, std::int64_t columns, Route& route) const {
  const at::Tensor grid = route.value(*grid_.slot, grid_.own);
  const bool resampled = rows != config_.grid || columns != config_.grid;
  return resampled && grid.is_same(grid_.own) ? kept_positions(rows, columns)
                                              : position_rows(config_, grid, rows, columns);
}

at::Tensor Vit::kept_positions(std::int64_t rows, std::int64_t columns) const {
  const std::lock_guard lock(positions_mutex_);
  if (positions_.size() >= kKeptPositionSizes && !positions_.contains({rows, columns})) positions_.clear();
  at::Tensor& kept = positions_[{rows, columns}];
  if (!kept.defined()) kept = make_lasting([&] { return position_rows(config_, grid_.own, rows, columns); });
  return kept;
}

at::Tensor Vit::run_block(const Block& block, const at::Tensor& x, Route& route) const {
  // A bf16 branch is promoted by its scale or by the sum, so the stream keeps its dtype.
  const auto scaled = [&](const at::Tensor& y, const Vector& scale) {
    return scale.slot == nullptr ? y : y * value(scale, x.scalar_type(), route);
  };
  const at::Tensor attended = route.call(*block.attn, run_norm(block.norm1, x, route),
                                         [&](const at::Tensor& t) { return attention(block, t, route); });
  const at::Tensor middle = x + scaled(attended, block.attn_scale);
  const at::Tensor widened = route.call(*block.mlp, run_norm(block.norm2, middle, route),
                                        [&](const at::Tensor& t) { return mlp(block, t, route); });
  return middle + scaled(widened, block.mlp_scale);
}

at::Tensor Vit::run_norm(const Norm& norm, const at::Tensor& x, Route& route) const {
  return route.call(*norm.slot, x, [&](const at::Tensor& t) {
    const at::ScalarType dtype = t.scalar_type();
    return at::layer_norm(t, {config_.width}, value(norm.gain, dtype, route), value(norm.bias, dtype, route),
                          config_.norm_eps);
  });
}

at::Tensor Vit::attention(const Block& block, const at::Tensor& x, Route& route) const {
  return run_product(block.proj, self_attention(run_product(block.qkv, x, route), config_.heads), route);
}

at::Tensor Vit::mlp(const Block& block, const at::Tensor& x, Route& route) const {
  return run_product(block.fc2, at::gelu(run_product(block.fc1, x, route)), route);
}

at::Tensor Vit::pool(const at::Tensor& tokens) const {
  if (config_.pooling == "token") return tokens.select(1, 0);
  const std::int64_t prefix = (config_.class_token ? 1 : 0) + config_.register_tokens;
  const at::Tensor average = tokens.slice(1, prefix).mean(1);
  return config_.pooling == "average" ? average : at::cat({tokens.select(1, 0), average}, 1);
}

}  // namespace

// With antialiasing as timm's resample_abs_pos_embed, without as transformers' interpolate_pos_encoding; both give the
// size wanted, not a scale.
at::Tensor position_rows(const VitConfig& vit, const at::Tensor& grid, std::int64_t rows, std::int64_t columns) {
  if (rows == vit.grid && columns == vit.grid) return grid.flatten(0, 1);
  const at::Tensor planes = grid.permute({2, 0, 1}).unsqueeze(0);
  const at::Tensor other = vit.pos_interpolation == "bicubic"
                               ? at::upsample_bicubic2d(planes, {rows, columns}, /*align_corners=*/false)
                               : at::_upsample_bicubic2d_aa(planes, {rows, columns}, /*align_corners=*/false);
  return other.squeeze(0).permute({1, 2, 0}).reshape({rows * columns, vit.width});
}

std::shared_ptr<const Backbone> make_vit(const ModelFiles& files, at::Device device) {
  return make_lasting([&] { return std::make_shared<Vit>(files, device); });
}

}  // namespace recast
