// Convolutional networks. ResNet: He et al., CVPR 2016, arXiv:1512.03385, with the stride of a bottleneck on its 3 x 3
// convolution, as torchvision and timm have it. MBConv: Sandler et al., CVPR 2018, arXiv:1801.04381, and Tan and Le,
// ICML 2019, arXiv:1905.11946; EfficientNet-Lite leaves out squeeze-and-excitation and activates by ReLU6.
// Shapes: B batch, C channels, H height, W width, D channels of the last map.
#include "cnn.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <utility>

#include "images.h"
#include "recast/base/error.h"
#include "recast/model/sum_features.h"
#include "slot_weights.h"

namespace recast {
namespace {

/// A convolution and its norm, with their slots.
struct Conv {
  ConvPlan plan;
  const Slot *slot, *norm;
  Vector gain, bias, mean, variance;
};

struct CnnBlock {
  BlockPlan plan;
  const Slot* slot;
  std::vector<Conv> convs;
  std::optional<Conv> projection;
};

/// Zeros on both sides of one dimension.
struct Padding {
  std::int64_t before, after;
};

/// TensorFlow's "same": as much as ceil(side / stride) windows need, the odd pixel after.
Padding same_padding(std::int64_t side, std::int64_t kernel, std::int64_t stride) {
  const std::int64_t windows = (side + stride - 1) / stride;
  const std::int64_t all = std::max<std::int64_t>((windows - 1) * stride + kernel - side, 0);
  return {all / 2, all - all / 2};
}

/// (x - mean) / sqrt(variance + eps) * gain + bias per channel, differentiable in all of them.
at::Tensor normalise(const at::Tensor& x, const at::Tensor& gain, const at::Tensor& bias, const at::Tensor& mean,
                     const at::Tensor& variance, double eps) {
  // The fused operator knows no gradient of the statistics, which a plug-in may make.
  if (!mean.requires_grad() && !variance.requires_grad())
    return at::batch_norm(x, gain, bias, mean, variance, /*training=*/false, /*momentum=*/0, eps, /*cudnn=*/false);
  const at::Tensor scale = gain * at::rsqrt(variance + eps);
  const auto per_channel = [](const at::Tensor& t) { return t.view({1, -1, 1, 1}); };
  return x * per_channel(scale) + per_channel(bias - mean * scale);
}

/// A convolution and its norm, whose numbers are frozen, as one: W' = s W and b' = bias - s mean with
/// s = gain / sqrt(variance + eps) by channel. In the dtype of products.
struct Folded {
  at::Tensor weight, bias;
};

class Cnn final : public Backbone, public SumFeatures {
 public:
  Cnn(const ModelFiles& files, at::Device device);

  const Anatomy& anatomy() const override { return slots_.anatomy(); }
  std::int64_t feature_width() const override { return anatomy().slots.back().shape[0]; }
  at::Tensor weight(const Slot& slot) const override { return slots_.weight(slot); }
  at::Tensor features(const at::Tensor& input, Route& route) const override;
  std::string why_no_sum_features(const at::Tensor& input, const BankSums& sums, at::ScalarType dtype) const override;
  at::Tensor sum_features(const at::Tensor& input, const BankSums& sums, at::ScalarType dtype) const override;

 private:
  Conv conv(const ConvPlan& plan) const;
  CnnBlock block(const BlockPlan& plan) const;

  void check_input(const at::Tensor& input) const;
  at::Tensor run(const Conv& conv, const at::Tensor& x, Route& route) const;
  at::Tensor convolve(const Conv& conv, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) const;
  at::Tensor run(const CnnBlock& block, const at::Tensor& x, Route& route) const;
  /// `run` is what the block does with a convolution.
  template <class Run>
  at::Tensor shortcut(const CnnBlock& block, const at::Tensor& x, const Run& run) const;
  at::Tensor activate(const at::Tensor& x) const;

  Folded fold(const Conv& conv, const at::Tensor& weight, at::ScalarType dtype) const;
  Folded frozen(const Conv& conv, at::ScalarType dtype) const;
  Folded made(const Conv& conv, const BankSum& sum, at::ScalarType dtype) const;
  at::Tensor run(const CnnBlock& block, const at::Tensor& x, const BankSums& sums) const;
  at::Tensor run(const Conv& conv, const at::Tensor& x, const BankSums& sums) const;
  void activate_in_place(at::Tensor& x) const;

  // Constant after construction.
  const CnnConfig config_;
  const std::int64_t least_side_;
  const SlotWeights slots_;
  std::optional<Conv> stem_, head_;
  std::vector<CnnBlock> blocks_;

  using Key = std::pair<std::string, at::ScalarType>;
  struct Last {
    at::Tensor coefficients;
    Blocks blocks;
    Folded folded;
  };
  mutable std::mutex folded_mutex_;  // guards what follows; what is made is made outside it
  mutable std::map<Key, Folded> frozen_;
  mutable std::map<Key, Last> last_;
};

Cnn::Cnn(const ModelFiles& files, at::Device device)
    : config_(files.config.cnn()), least_side_(total_stride(config_)), slots_(cnn_anatomy(config_), files, device) {
  const CnnPlan plan = plan_of(config_);
  stem_ = conv(plan.stem);
  for (const BlockPlan& each : plan.blocks) blocks_.push_back(block(each));
  if (plan.head) head_ = conv(*plan.head);
}

Conv Cnn::conv(const ConvPlan& plan) const {
  const auto vector = [&](const char* name) { return slots_.vector(plan.norm + name); };
  return {plan,
          &anatomy().at(plan.slot),
          &anatomy().at(plan.norm),
          vector(".weight"),
          vector(".bias"),
          vector(".running_mean"),
          vector(".running_var")};
}

CnnBlock Cnn::block(const BlockPlan& plan) const {
  CnnBlock block{plan, &anatomy().at(plan.slot), {}, std::nullopt};
  for (const ConvPlan& each : plan.convs) block.convs.push_back(conv(each));
  if (plan.projection) block.projection = conv(*plan.projection);
  return block;
}

at::Tensor Cnn::features(const at::Tensor& input, Route& route) const {
  check_input(input);
  // Pixels of a channel apart: convolutions on the CPU take a fifth less time so in fp32, half in bf16.
  const at::Tensor pixels = input.to(stream_dtype(input)).contiguous(at::MemoryFormat::ChannelsLast);
  at::Tensor x = run(*stem_, pixels, route);
  if (config_.stem_pool) x = at::max_pool2d(x, {3, 3}, {2, 2}, {1, 1});
  for (const CnnBlock& block : blocks_) {
    x = route.call(*block.slot, x, [&](const at::Tensor& t) { return run(block, t, route); });
  }
  if (head_) x = run(*head_, x, route);
  return route.call(anatomy().slots.back(), x.mean({2, 3}), [](const at::Tensor& t) { return t; });
}

void Cnn::check_input(const at::Tensor& input) const {
  check_images(input);
  if (std::min(input.size(2), input.size(3)) >= least_side_) return;
  fail(Code::kShapeMismatch,
       "[model] input is {} x {} pixels, sides must be at least {}, by which the network shrinks them", input.size(2),
       input.size(3), least_side_);
}

at::Tensor Cnn::run(const Conv& conv, const at::Tensor& x, Route& route) const {
  const at::ScalarType dtype = x.scalar_type();
  const at::Tensor y = route.product(*conv.slot, x, [&](const at::Tensor& t, const at::Tensor& weight) {
    return convolve(conv, t, slots_.cast(*conv.slot, weight, t.scalar_type()).to(t.scalar_type()), {});
  });
  const at::Tensor normed = route.call(*conv.norm, y.to(dtype), [&](const at::Tensor& t) {
    const auto number = [&](const Vector& vector) { return value(vector, t.scalar_type(), route); };
    const at::Tensor gain = number(conv.gain), bias = number(conv.bias), mean = number(conv.mean);
    return normalise(t, gain, bias, mean, number(conv.variance), config_.norm_eps);
  });
  return conv.plan.activated ? activate(normed) : normed;
}

at::Tensor Cnn::convolve(const Conv& conv, const at::Tensor& x, const at::Tensor& weight,
                         const at::Tensor& bias) const {
  using Pair = std::array<std::int64_t, 2>;
  const std::int64_t k = conv.plan.kernel, s = conv.plan.stride;
  Pair padding = {k / 2, k / 2};
  at::Tensor padded = x;
  if (config_.padding == "same") {
    const Padding rows = same_padding(x.size(2), k, s), columns = same_padding(x.size(3), k, s);
    padding = {rows.before, columns.before};
    if (rows.before != rows.after || columns.before != columns.after) {
      padded = at::constant_pad_nd(x, {columns.before, columns.after, rows.before, rows.after});
      padding = {0, 0};
    }
  }
  return at::conv2d(padded, weight, bias, Pair{s, s}, padding, Pair{1, 1}, conv.plan.groups);
}

at::Tensor Cnn::run(const CnnBlock& block, const at::Tensor& x, Route& route) const {
  at::Tensor y = x;
  for (const Conv& conv : block.convs) y = run(conv, y, route);
  if (block.plan.shortcut != BlockPlan::Shortcut::kNone)
    y = y + shortcut(block, x, [&](const Conv& conv) { return run(conv, x, route); });
  return block.plan.activated ? activate(y) : y;
}

template <class Run>
at::Tensor Cnn::shortcut(const CnnBlock& block, const at::Tensor& x, const Run& run) const {
  if (block.projection) return run(*block.projection);
  if (block.plan.shortcut == BlockPlan::Shortcut::kIdentity) return x;
  const std::int64_t s = block.plan.stride, more = block.plan.channels - block.plan.in;
  const at::Tensor kept = s == 1 ? x : x.slice(2, 0, std::nullopt, s).slice(3, 0, std::nullopt, s);
  return at::constant_pad_nd(kept, {0, 0, 0, 0, more / 2, more - more / 2});
}

at::Tensor Cnn::activate(const at::Tensor& x) const {
  return config_.activation == "relu6" ? at::clamp(x, 0, 6) : at::relu(x);
}

// ---- sums of templates alone: norms folded into weights, one stored result a convolution ----------------------------

std::string Cnn::why_no_sum_features(const at::Tensor& input, const BankSums&, at::ScalarType dtype) const {
  if (input.dim() != 4 || input.numel() == 0 || !input.is_floating_point() || input.scalar_type() == at::kDouble)
    return "the input is empty, no image, or of fp64";
  return dtype == at::kFloat || dtype == at::kBFloat16 ? "" : "products are of fp32 or bf16";
}

at::Tensor Cnn::sum_features(const at::Tensor& input, const BankSums& sums, at::ScalarType dtype) const {
  check_input(input);
  at::Tensor x = run(*stem_, input.to(dtype).contiguous(at::MemoryFormat::ChannelsLast), sums);
  if (config_.stem_pool) x = at::max_pool2d(x, {3, 3}, {2, 2}, {1, 1});
  for (const CnnBlock& block : blocks_) x = run(block, x, sums);
  if (head_) x = run(*head_, x, sums);
  return x.mean({2, 3}, /*keepdim=*/false, at::kFloat);
}

Folded Cnn::fold(const Conv& conv, const at::Tensor& weight, at::ScalarType dtype) const {
  const auto number = [](const Vector& vector) { return vector.own.to(at::kFloat); };
  const at::Tensor scale = number(conv.gain) * at::rsqrt(number(conv.variance) + config_.norm_eps);
  const at::Tensor folded = weight.to(at::kFloat) * scale.view({-1, 1, 1, 1});
  return {folded.to(dtype).contiguous(at::MemoryFormat::ChannelsLast),
          (number(conv.bias) - number(conv.mean) * scale).to(dtype)};
}

Folded Cnn::frozen(const Conv& conv, at::ScalarType dtype) const {
  const Key key{conv.slot->name, dtype};
  {
    const std::lock_guard lock(folded_mutex_);
    if (const auto found = frozen_.find(key); found != frozen_.end()) return found->second;
  }
  const Folded folded = make_lasting([&] { return fold(conv, weight(*conv.slot), dtype); });
  const std::lock_guard lock(folded_mutex_);
  return frozen_.emplace(key, folded).first->second;
}

/// The last one is kept where no gradient is asked for: evaluation asks for the same again and again.
Folded Cnn::made(const Conv& conv, const BankSum& sum, at::ScalarType dtype) const {
  const auto make = [&](const at::Tensor& coefficients) {
    return fold(conv, blockwise_sum(conv.slot->bank, coefficients, sum.blocks), dtype);
  };
  if (sum.coefficients.requires_grad() && c10::GradMode::is_enabled()) return make(sum.coefficients);
  const Key key{conv.slot->name, dtype};
  {
    const std::lock_guard lock(folded_mutex_);
    const auto found = last_.find(key);
    if (found != last_.end() && found->second.blocks.length == sum.blocks.length &&
        found->second.blocks.of_columns == sum.blocks.of_columns &&
        at::equal(found->second.coefficients, sum.coefficients))
      return found->second.folded;
  }
  const Last last = make_lasting([&] {
    const at::Tensor own = sum.coefficients.detach().clone();
    return Last{own, sum.blocks, make(own)};
  });
  const std::lock_guard lock(folded_mutex_);
  last_[key] = last;
  return last.folded;
}

at::Tensor Cnn::run(const Conv& conv, const at::Tensor& x, const BankSums& sums) const {
  const auto sum = sums.find(conv.slot->name);
  const Folded folded =
      sum == sums.end() ? frozen(conv, x.scalar_type()) : made(conv, sum->second, x.scalar_type());
  at::Tensor y = convolve(conv, x, folded.weight, folded.bias);
  if (conv.plan.activated) activate_in_place(y);
  return y;
}

at::Tensor Cnn::run(const CnnBlock& block, const at::Tensor& x, const BankSums& sums) const {
  at::Tensor y = x;
  for (const Conv& conv : block.convs) y = run(conv, y, sums);
  if (block.plan.shortcut != BlockPlan::Shortcut::kNone)
    y.add_(shortcut(block, x, [&](const Conv& conv) { return run(conv, x, sums); }));
  if (block.plan.activated) activate_in_place(y);
  return y;
}

/// No convolution asks for its result in backward.
void Cnn::activate_in_place(at::Tensor& x) const {
  if (config_.activation == "relu6")
    at::hardtanh_(x, 0, 6);
  else
    at::relu_(x);
}

}  // namespace

std::shared_ptr<const Backbone> make_cnn(const ModelFiles& files, at::Device device) {
  return make_lasting([&] { return std::make_shared<Cnn>(files, device); });
}

}  // namespace recast
