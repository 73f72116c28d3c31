// Vision transformer. Dosovitskiy et al., ICLR 2021, arXiv:2010.11929; LayerScale: Touvron et al., ICCV 2021,
// arXiv:2103.17239; register tokens: Darcet et al., ICLR 2024, arXiv:2309.16588.
// Shapes: B batch, T tokens (class, registers, patches), D width, H heads, N patches, p patch side in pixels.
#include "vit.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>
#include <fmt/ranges.h>

#include <map>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "attention.h"
#include "linear.h"
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

/// A value made at first use, also when that use is inside inference mode: what is made must serve training later.
template <class Make>
auto make_lasting(const Make& make) {
  const c10::InferenceMode off(false);
  const c10::AutoGradMode no_grad(false);
  return make();
}

/// A parameter that enters no product, and its slot; both null where the architecture has none.
struct Vector {
  const Slot* slot = nullptr;
  at::Tensor own;
};

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

class Vit final : public Backbone {
 public:
  Vit(const ModelFiles& files, at::Device device);

  const Anatomy& anatomy() const override { return anatomy_; }
  std::int64_t feature_width() const override { return anatomy_.slots.back().shape[0]; }
  at::Tensor weight(const Slot& slot) const override;
  at::Tensor features(const at::Tensor& input, Route& route) const override;

 private:
  struct Weight {
    at::Tensor own;  // filled by `once` where a bank covers the slot
    at::Tensor bf16;
    std::once_flag once, bf16_once;
  };

  void cover(const ModelFiles& files);
  void take_weights(const ModelFiles& files);
  Vector vector(const std::string& name) const;
  Norm norm(const std::string& name) const;
  Product product(const std::string& name) const;
  Block block(std::int64_t n) const;

  void check_input(const at::Tensor& input) const;
  at::Tensor cast(const Slot& slot, const at::Tensor& weight, at::ScalarType dtype) const;
  at::Tensor run_product(const Product& product, const at::Tensor& x, Route& route) const;
  at::Tensor embed(const at::Tensor& input, Route& route) const;
  at::Tensor positions(std::int64_t rows, std::int64_t columns, Route& route) const;
  at::Tensor kept_positions(std::int64_t rows, std::int64_t columns) const;
  at::Tensor resampled(const at::Tensor& grid, std::int64_t rows, std::int64_t columns) const;
  at::Tensor run_block(const Block& block, const at::Tensor& x, Route& route) const;
  at::Tensor run_norm(const Norm& norm, const at::Tensor& x, Route& route) const;
  at::Tensor attention(const Block& block, const at::Tensor& x, Route& route) const;
  at::Tensor mlp(const Block& block, const at::Tensor& x, Route& route) const;
  at::Tensor pool(const at::Tensor& tokens) const;

  // Constant after construction.
  const VitConfig config_;
  const at::Device device_;
  Anatomy anatomy_;
  Product patch_embed_;
  Vector class_token_, class_position_, register_tokens_, grid_;  // grid_ is "positions" [g, g, D]
  std::vector<Block> blocks_;
  Norm norm_;

  // Made at first use.
  mutable std::unordered_map<std::string, Weight> weights_;  // the map itself is constant
  mutable std::mutex positions_mutex_;
  mutable std::map<std::pair<std::int64_t, std::int64_t>, at::Tensor> positions_;  // guarded by positions_mutex_
};

/// Input sizes whose positions are kept: enough for any sane use, few enough for a server that is sent all sizes.
constexpr std::size_t kKeptPositionSizes = 16;

std::string shape_text(const at::Tensor& t) { return fmt::format("[{}]", fmt::join(t.sizes(), ", ")); }

/// The effective value of a vector slot in a dtype; undefined where there is none.
at::Tensor value(const Vector& vector, at::ScalarType dtype, Route& route) {
  return vector.slot == nullptr ? at::Tensor() : route.value(*vector.slot, vector.own).to(dtype);
}

Vit::Vit(const ModelFiles& files, at::Device device)
    : config_(files.config.vit), device_(device), anatomy_(vit_anatomy(config_)) {
  cover(files);
  take_weights(files);
  patch_embed_ = product("patch_embed");
  class_token_ = vector("class_token");
  class_position_ = vector("class_position");
  register_tokens_ = vector("register_tokens");
  grid_ = vector("positions");
  for (std::int64_t n = 0; n < config_.depth; ++n) blocks_.push_back(block(n));
  norm_ = norm("norm");
}

void Vit::cover(const ModelFiles& files) {
  for (std::size_t g = 0; g < files.config.bank.members.size(); ++g) {
    const BankConfig::Group& group = files.config.bank.members[g];
    const at::Tensor templates = files.bank.find(group.name + ".templates")->second.detach().to(device_);
    for (const std::string& name : group.slots) {
      Slot& slot = const_cast<Slot&>(anatomy_.at(name));  // ours, and not yet handed out
      slot.group = static_cast<int>(g);
      slot.bank = templates;
      slot.coefficients = files.bank.find(name + ".coefficients")->second.detach().to(device_);
    }
  }
}

void Vit::take_weights(const ModelFiles& files) {
  for (const Slot& slot : anatomy_.slots) {
    if (slot.kind != SlotKind::kWeight && slot.kind != SlotKind::kVector) continue;
    const std::string name = slot.kind == SlotKind::kWeight ? slot.name + ".weight" : slot.name;
    Weight& weight = weights_[slot.name];
    if (slot.group < 0) weight.own = files.backbone.find(name)->second.detach().to(device_);
  }
}

Vector Vit::vector(const std::string& name) const {
  const Slot* slot = anatomy_.find(name);
  return slot == nullptr ? Vector() : Vector{slot, weights_.at(name).own};
}

Norm Vit::norm(const std::string& name) const {
  return {&anatomy_.at(name), vector(name + ".weight"), vector(name + ".bias")};
}

Product Vit::product(const std::string& name) const { return {&anatomy_.at(name), vector(name + ".bias")}; }

Block Vit::block(std::int64_t n) const {
  const auto name = [n](std::string_view role) { return block_name(n, role); };
  return {.whole = &anatomy_.at(name("")),
          .attn = &anatomy_.at(name("attn")),
          .mlp = &anatomy_.at(name("mlp")),
          .norm1 = norm(name("norm1")),
          .norm2 = norm(name("norm2")),
          .qkv = product(name("attn.qkv")),
          .proj = product(name("attn.proj")),
          .fc1 = product(name("mlp.fc1")),
          .fc2 = product(name("mlp.fc2")),
          .attn_scale = vector(name("attn.scale")),
          .mlp_scale = vector(name("mlp.scale"))};
}

at::Tensor Vit::weight(const Slot& slot) const {
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

at::Tensor Vit::features(const at::Tensor& input, Route& route) const {
  check_input(input);
  at::Tensor x = embed(input, route);
  for (const Block& block : blocks_) {
    x = route.call(*block.whole, x, [&](const at::Tensor& t) { return run_block(block, t, route); });
  }
  x = pool(run_norm(norm_, x, route));
  return route.call(anatomy_.slots.back(), x, [](const at::Tensor& t) { return t; });
}

void Vit::check_input(const at::Tensor& input) const {
  if (input.dim() != 4 || input.size(1) != 3) {
    fail(Code::kShapeMismatch, "[model] input is {}, expected [B, 3, height, width]", shape_text(input));
  }
  if (!input.is_floating_point()) {
    fail(Code::kShapeMismatch, "[model] input is of type {}, expected normalised pixels in floating point",
         c10::toString(input.scalar_type()));
  }
  const std::int64_t p = config_.patch_px;
  for (const std::int64_t side : {input.size(2), input.size(3)}) {
    if (side > 0 && side % p == 0) continue;
    const std::int64_t below = side / p * p;
    fail(Code::kShapeMismatch,
         "[model] input is {} x {} pixels, sides must be multiples of the patch size {}: take {}{}", input.size(2),
         input.size(3), p, below > 0 ? fmt::format("{} or ", below) : "", below + p);
  }
}

/// A frozen weight is cast to bf16 once and kept; one that a plug-in made, or that is made of a bank, at every use.
at::Tensor Vit::cast(const Slot& slot, const at::Tensor& weight, at::ScalarType dtype) const {
  if (dtype != at::kBFloat16 || slot.group >= 0) return weight;
  Weight& kept = weights_.at(slot.name);
  if (!weight.is_same(kept.own)) return weight;
  std::call_once(kept.bf16_once, [&] { kept.bf16 = make_lasting([&] { return kept.own.to(at::kBFloat16); }); });
  return kept.bf16;
}

at::Tensor Vit::run_product(const Product& product, const at::Tensor& x, Route& route) const {
  const Vector& own = product.bias;
  const at::Tensor bias = own.slot == nullptr ? at::Tensor() : route.value(*own.slot, own.own);
  return route.product(*product.slot, x, [&](const at::Tensor& t, const at::Tensor& weight) {
    return linear(t, cast(*product.slot, weight, t.scalar_type()).flatten(1), bias);
  });
}

at::Tensor Vit::embed(const at::Tensor& input, Route& route) const {
  const std::int64_t B = input.size(0), D = config_.width, p = config_.patch_px;
  const std::int64_t rows = input.size(2) / p, columns = input.size(3) / p;
  // The residual stream is fp32 whatever dtype the products run in, and fp64 for fp64 pixels (numeric checks).
  const at::ScalarType dtype = input.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
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
  if (rows == config_.grid && columns == config_.grid) return grid.flatten(0, 1);
  return grid.is_same(grid_.own) ? kept_positions(rows, columns) : resampled(grid, rows, columns);
}

at::Tensor Vit::kept_positions(std::int64_t rows, std::int64_t columns) const {
  const std::lock_guard lock(positions_mutex_);
  if (positions_.size() >= kKeptPositionSizes && !positions_.contains({rows, columns})) positions_.clear();
  at::Tensor& kept = positions_[{rows, columns}];
  if (!kept.defined()) kept = make_lasting([&] { return resampled(grid_.own, rows, columns); });
  return kept;
}

/// The grid at another size, [rows * columns, D]: with antialiasing as timm's resample_abs_pos_embed, without as
/// transformers' interpolate_pos_encoding; both give the size wanted, not a scale.
at::Tensor Vit::resampled(const at::Tensor& grid, std::int64_t rows, std::int64_t columns) const {
  const at::Tensor planes = grid.permute({2, 0, 1}).unsqueeze(0);
  const at::Tensor other = config_.pos_interpolation == "bicubic"
                               ? at::upsample_bicubic2d(planes, {rows, columns}, /*align_corners=*/false)
                               : at::_upsample_bicubic2d_aa(planes, {rows, columns}, /*align_corners=*/false);
  return other.squeeze(0).permute({1, 2, 0}).reshape({rows * columns, config_.width});
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

std::shared_ptr<const Backbone> make_vit(const ModelFiles& files, at::Device device) {
  return make_lasting([&] { return std::make_shared<Vit>(files, device); });
}

}  // namespace recast
