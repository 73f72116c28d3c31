// Shapes as in vit.cc; R rows that are worked on, S the storage of activations and weights: float or bf16. A group is
// images in a row whose tokens go through products together, so that a weight is read once for all of them. What comes
// out of a panel of a product is finished (bias, GELU, residual, rounding) before the next one is begun.
#include "vit_pass.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "kernels/rows.h"
#include "panels.h"
#include "recast/base/error.h"
#include "slot_weights.h"

namespace recast {
namespace {

using namespace vit_pass;

constexpr Index divide_up(Index n, Index by) { return (n + by - 1) / by; }
constexpr Index round_up(Index n, Index step) { return divide_up(n, step) * step; }

/// The four products of a block, from input to output.
enum Place { kQkv, kProj, kFc1, kFc2, kPlaces };
/// A block's places are numbered through the network: 4 block + place.
constexpr Index kNowhere = std::numeric_limits<Index>::max();

/// A slot whose coefficients are to have a gradient.
template <class S>
struct Trained {
  Index blocks, n, length;
  bool by_row;                       ///< of several blocks of rows: dL/dc from X T^T, else from dY T
  std::vector<Panels<S>> templates;  ///< Side::kForward if by_row, else kBackward
  std::vector<float> factor;         ///< [n, N] coefficient of each column of dX; empty if by_row
  Index first;                       ///< of its numbers among all coefficients, [blocks, n]
};

/// A slot in one call.
template <class S>
struct Product {
  Panels<S> forward, backward;  ///< backward: only where a gradient passes that the templates do not give
  const float* bias = nullptr;
  std::optional<Trained<S>> trained;
};

/// Memory of one thread, a group's worth.
template <class S>
struct Scratch {
  S *a, *b, *hidden, *d_hidden, *mixed, *d_qkv;
  kernels::Slope<S>* slope;
  S *right, *shares, *d_shares, *pairs;
  float *c, *d, *d_last, *d_norm, *scores, *d_scores, *small;
};

/// What forward leaves for backward of one group and block, and what it needs itself.
template <class S>
struct Kept {
  S *x1, *qkv, *x2;
  S *mixed, *pre;            ///< inputs of proj and of GELU, where their slots are trained; else null
  kernels::Slope<S>* slope;  ///< of GELU, where `pre` is not kept
  float *mean1, *rstd1, *mean2, *rstd2, *sums;
};

/// What of it depends on which slots are trained.
struct Keeps {
  bool mixed = false, pre = false;
};

/// Rows of a group at most, unless one image has more: enough for a weight to be read seldom, few enough to stay in a
/// second-level cache.
constexpr Index kGroupRows = 224;

struct Sizes {
  Index T, D, H, M, d, padded;
  Index groups, group, rows;  ///< groups; images of one, at most; rows of so many
  Sizes(const VitConfig& config, Index tokens, Index images)
      : T(tokens),
        D(config.width),
        H(config.heads),
        M(config.mlp_width),
        d(config.width / config.heads),
        padded(round_up(tokens, 16)) {
    const Index threads = at::get_num_threads(), most = std::max<Index>(1, kGroupRows / T);
    groups = std::min(images, threads * divide_up(divide_up(images, threads), most));
    group = divide_up(images, groups);
    rows = group * T;
  }
};

/// Hands out pieces of one allocation, aligned to cache lines; measures without one.
class Pieces {
 public:
  explicit Pieces(void* memory) : memory_(static_cast<char*>(memory)) {}
  template <class T>
  T* take(Index count) {
    T* const piece = memory_ ? reinterpret_cast<T*>(memory_ + bytes_) : nullptr;
    bytes_ += round_up(count * static_cast<Index>(sizeof(T)), 64);
    return piece;
  }
  Index bytes() const { return bytes_; }

 private:
  char* memory_;
  Index bytes_ = 0;
};

template <class S>
Scratch<S> lay_out(const Sizes& z, Index n, Pieces& pieces) {
  Scratch<S> s;
  s.a = pieces.take<S>(z.rows * z.D);
  s.b = pieces.take<S>(z.rows * z.D);
  s.hidden = pieces.take<S>(z.rows * z.M);
  s.d_hidden = pieces.take<S>(z.rows * z.M);
  s.slope = pieces.take<kernels::Slope<S>>(z.rows * z.M);
  s.mixed = pieces.take<S>(z.rows * z.D);
  s.d_qkv = pieces.take<S>(z.rows * 3 * z.D);
  s.right = pieces.take<S>(z.padded * std::max(z.d, z.padded));
  s.shares = pieces.take<S>(z.padded * z.padded);
  s.d_shares = pieces.take<S>(z.padded * z.padded);
  s.pairs = pieces.take<S>(z.padded * z.padded);
  s.c = pieces.take<float>(z.rows * kPanel * std::max<Index>(n + 1, 2));
  s.d = pieces.take<float>(z.rows * z.D);
  s.d_last = pieces.take<float>(z.group * z.D);
  s.d_norm = pieces.take<float>(z.rows * z.D);
  s.scores = pieces.take<float>(z.padded * std::max(z.d, z.padded));
  s.d_scores = pieces.take<float>(z.padded * z.padded);
  s.small = pieces.take<float>(z.padded * std::max<Index>(z.d, 1));
  return s;
}

template <class S>
Kept<S> lay_out_block(const Sizes& z, Keeps keeps, Pieces& pieces) {
  Kept<S> k{};
  k.x1 = pieces.take<S>(z.rows * z.D);
  k.qkv = pieces.take<S>(z.rows * 3 * z.D);
  k.x2 = pieces.take<S>(z.rows * z.D);
  if (keeps.mixed) k.mixed = pieces.take<S>(z.rows * z.D);
  if (keeps.pre)
    k.pre = pieces.take<S>(z.rows * z.M);
  else
    k.slope = pieces.take<kernels::Slope<S>>(z.rows * z.M);
  k.mean1 = pieces.take<float>(z.rows);
  k.rstd1 = pieces.take<float>(z.rows);
  k.mean2 = pieces.take<float>(z.rows);
  k.rstd2 = pieces.take<float>(z.rows);
  k.sums = pieces.take<float>(z.H * z.rows);
  return k;
}

/// Of the last norm.
template <class S>
Kept<S> lay_out_last(Index rows, Index width, Pieces& pieces) {
  Kept<S> k{};
  k.x1 = pieces.take<S>(rows * width);
  k.mean1 = pieces.take<float>(rows);
  k.rstd1 = pieces.take<float>(rows);
  return k;
}

}  // namespace

/// One call: what forward hands to backward.
class VitCall : public torch::CustomClassHolder {
 public:
  /// [B, feature width] fp32. Once.
  virtual at::Tensor forward() = 0;
  /// d_features [B, feature width] fp32. Returns the gradient of all coefficients in a row, fp32.
  virtual at::Tensor backward(const at::Tensor& d_features) = 0;
  VitPass::Again again;
  BankSums sums;  ///< without a gradient
};

/// What lasts from call to call: the network's own numbers, packed weights, memory.
class VitEngine {
  using Index = vit_pass::Index;
  using Side = vit_pass::Side;
  template <class S>
  using Panels = vit_pass::Panels<S>;

 public:
  VitEngine(const VitConfig& config, std::vector<VitPass::Block> blocks, VitPass::Norm norm, VitPass::Weight weight)
      : config(config), blocks(std::move(blocks)), norm(std::move(norm)), weight_(std::move(weight)) {}

  /// The frozen weight of a slot.
  template <class S>
  Panels<S> frozen(const Slot& slot, Side side) {
    return kept<S>({slot.name, -1, side}, [&] { return weight_(slot); });
  }
  /// Template i of the bank that covers a slot.
  template <class S>
  Panels<S> of_bank(const Slot& slot, Index i, Side side) {
    return kept<S>({fmt::format("bank {}", slot.group), i, side}, [&] { return slot.bank[i]; });
  }
  /// A slot's weight as a sum of templates. The last one is kept: evaluation asks for the same again and again.
  template <class S>
  Panels<S> sum(const Slot& slot, const BankSum& sum, Side side);

  /// Memory of a call that has ended, which the next one takes where it fits: pages stay with the process.
  at::Tensor take(Index bytes);
  void give(at::Tensor memory);

  const VitConfig config;
  const std::vector<VitPass::Block> blocks;
  const VitPass::Norm norm;

 private:
  struct Key {
    std::string slot;
    Index number;
    Side side;
    auto operator<=>(const Key&) const = default;
  };
  template <class S>
  struct Sum {
    at::Tensor coefficients;
    Blocks blocks;
    Panels<S> panels;
  };
  template <class S>
  struct Packed {
    std::map<Key, Panels<S>> lasting;
    std::map<Key, Sum<S>> last;
  };

  template <class S>
  Packed<S>& packed() {
    if constexpr (sizeof(S) == 2)
      return bf16_;
    else
      return fp32_;
  }
  template <class S, class Make>
  Panels<S> kept(const Key& key, const Make& make);

  const VitPass::Weight weight_;
  std::mutex mutex_;  // guards what follows; what is made is made outside it
  Packed<float> fp32_;
  Packed<bf16> bf16_;
  at::Tensor spare_;
};

template <class S, class Make>
Panels<S> VitEngine::kept(const Key& key, const Make& make) {
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = packed<S>().lasting.find(key); found != packed<S>().lasting.end()) return found->second;
  }
  const Panels<S> panels = make_lasting([&] { return pack<S>(make(), key.side); });
  const std::lock_guard lock(mutex_);
  return packed<S>().lasting.emplace(key, panels).first->second;
}

template <class S>
Panels<S> VitEngine::sum(const Slot& slot, const BankSum& sum, Side side) {
  const Key key{slot.name, -1, side};
  const at::Tensor coefficients = sum.coefficients.detach();
  at::Tensor memory;  // of the last one, if no call holds it: pages stay with the process
  {
    const std::lock_guard lock(mutex_);
    const auto found = packed<S>().last.find(key);
    if (found != packed<S>().last.end()) {
      Sum<S>& last = found->second;
      if (last.blocks.length == sum.blocks.length && last.blocks.of_columns == sum.blocks.of_columns &&
          at::equal(last.coefficients, coefficients))
        return last.panels;
      memory = std::move(last.panels.memory);
      packed<S>().last.erase(found);
    }
  }
  if (memory.defined() && memory.use_count() > 1) memory.reset();
  Sum<S> made = make_lasting([&] {
    const at::Tensor own = coefficients.clone();  // of its own, since an optimiser moves what it is given in place
    return Sum<S>{own, sum.blocks,
                  own.size(0) == 1 ? pack_sum<S>(slot.bank, own, side, std::move(memory))
                                   : pack<S>(blockwise_sum(slot.bank, own, sum.blocks), side)};
  });
  const std::lock_guard lock(mutex_);
  packed<S>().last[key] = made;
  return made.panels;
}

at::Tensor VitEngine::take(Index bytes) {
  at::Tensor memory;
  {
    const std::lock_guard lock(mutex_);
    std::swap(memory, spare_);
  }
  return memory.defined() && memory.numel() >= bytes
             ? memory
             : make_lasting([&] { return at::empty({bytes}, at::TensorOptions(at::kByte)); });
}

void VitEngine::give(at::Tensor memory) {
  const std::lock_guard lock(mutex_);
  spare_ = std::move(memory);
}

namespace {

template <class S>
class Call final : public VitCall {
 public:
  /// records: backward() will be called.
  Call(std::shared_ptr<VitEngine> engine, const at::Tensor& tokens, const BankSums& sums, bool records);
  ~Call() override {
    if (memory_.defined()) engine_->give(std::move(memory_));
  }

  at::Tensor forward() override;
  at::Tensor backward(const at::Tensor& d_features) override;

 private:
  bool token_only() const { return engine_->config.pooling == "token"; }
  /// Rows of each image that matter behind the keys and values of a block. Where it is one, the group's lie together.
  Index rows(Index block) const { return block + 1 == depth_ ? last_rows() : z_.T; }
  Index last_rows() const { return token_only() ? 1 : z_.T; }
  Index first_of(Index group) const { return group * images_ / z_.groups; }
  Index images_of(Index group) const { return first_of(group + 1) - first_of(group); }
  Index prefix() const { return (engine_->config.class_token ? 1 : 0) + engine_->config.register_tokens; }
  bool reaches(Index block, Place place) const { return lowest_ < kPlaces * block + place; }
  Product<S>& product(Index block, Place place) { return products_[static_cast<std::size_t>(kPlaces * block + place)]; }

  void prepare(const BankSums& sums);
  Trained<S> train(const Slot& slot, const BankSum& sum, Index first);
  Kept<S> kept(Index group, Index block);
  Kept<S> last_kept(Index group);
  bool keeps(Index block) const { return records_ && block >= lowest_ / kPlaces; }

  void first_half(Index block, float* x, Kept<S>& k, Index begin, Index end, Scratch<S>& s);
  void attend(Index block, Kept<S>& k, Index image, Index head, Scratch<S>& s);
  void second_half(Index block, float* x, Kept<S>& k, Index begin, Index end, Scratch<S>& s);
  void pool(Index group, float* x, Scratch<S>& s);
  void run_group(Index group, Scratch<S>& s);
  void run_groups();
  void run_rows();

  void group_backward(Index group, const float* d_features, double* gradient, Scratch<S>& s);
  void attend_backward(Index block, const Kept<S>& k, Index image, Index head, Scratch<S>& s);
  /// dX of one product, panel by panel to finish(c, column, width), where `passes`; the gradient of its coefficients,
  /// image by image.
  template <class Finish>
  void product_backward(const Product<S>& p, Index images, Index R, const S* dy, Index ldy, const S* x, Index ldx,
                        bool passes, double* gradient, Scratch<S>& s, const Finish& finish);
  void dots(const Trained<S>& t, Index i, Index images, Index R, const float* c, Index column, Index width,
            const S* other, Index ldo, double* gradient);

  const std::shared_ptr<VitEngine> engine_;
  const kernels::ActivationKernels<S>& rows_;
  const Sizes z_;
  const Index images_, depth_;
  const at::Tensor tokens_;
  const bool records_;
  const float scale_;
  std::vector<Product<S>> products_;
  at::Tensor zeros_;         ///< [3 D] or [M]: the bias of a product without one
  Index lowest_ = kNowhere;  ///< first trained place
  Keeps keeps_;
  Index coefficients_ = 0, most_templates_ = 0;
  at::Tensor memory_, features_;
  Index block_bytes_ = 0, group_bytes_ = 0;
};

template <class S>
Call<S>::Call(std::shared_ptr<VitEngine> engine, const at::Tensor& tokens, const BankSums& sums, bool records)
    : engine_(std::move(engine)),
      rows_(kernels::activation_kernels<S>(isa())),
      z_(engine_->config, tokens.size(1), tokens.size(0)),
      images_(tokens.size(0)),
      depth_(engine_->config.depth),
      tokens_(tokens),
      records_(records),
      scale_(static_cast<float>(1 / std::sqrt(static_cast<double>(z_.d)))) {
  prepare(sums);
  Pieces block(nullptr), last(nullptr);
  lay_out_block<S>(z_, keeps_, block);
  block_bytes_ = block.bytes();
  lay_out_last<S>(z_.group * last_rows(), z_.D, last);
  const Index blocks = records ? depth_ - lowest_ / kPlaces : 0;
  group_bytes_ = blocks * block_bytes_ + last.bytes();
  if (records)
    memory_ = engine_->take(z_.groups * group_bytes_);
  else
    engine_->give({});
}

template <class S>
Trained<S> Call<S>::train(const Slot& slot, const BankSum& sum, Index first) {
  Trained<S> t;
  t.blocks = sum.coefficients.size(0);
  t.n = sum.coefficients.size(1);
  t.length = sum.blocks.length;
  t.by_row = t.blocks > 1 && !sum.blocks.of_columns;
  t.first = first;
  most_templates_ = std::max(most_templates_, t.n);
  for (Index i = 0; i < t.n; ++i)
    t.templates.push_back(engine_->template of_bank<S>(slot, i, t.by_row ? Side::kForward : Side::kBackward));
  if (t.by_row) return t;
  const at::Tensor c = sum.coefficients.detach().to(at::kFloat).contiguous();
  const Index N = slot.shape[1];
  for (Index i = 0; i < t.n; ++i)
    for (Index j = 0; j < N; ++j) t.factor.push_back(data<float>(c)[(t.blocks == 1 ? 0 : j / t.length) * t.n + i]);
  return t;
}

template <class S>
void Call<S>::prepare(const BankSums& sums) {
  const VitConfig& config = engine_->config;
  zeros_ = at::zeros({std::max(3 * config.width, config.mlp_width)}, at::kFloat);
  products_.resize(static_cast<std::size_t>(kPlaces * depth_));
  std::map<std::string, Index, std::less<>> first;
  for (const auto& [name, sum] : sums) {
    this->sums[name] = {sum.coefficients.detach(), sum.blocks};
    first[name] = coefficients_;
    coefficients_ += sum.coefficients.numel();
  }
  for (Index block = 0; block < depth_; ++block) {
    const VitPass::Block& own = engine_->blocks[static_cast<std::size_t>(block)];
    const VitPass::Matrix* const matrices[] = {&own.qkv, &own.proj, &own.fc1, &own.fc2};
    for (const Place place : {kQkv, kProj, kFc1, kFc2}) {
      const VitPass::Matrix& matrix = *matrices[place];
      const Slot& slot = *matrix.slot;
      Product<S>& p = product(block, place);
      p.bias = data<float>(matrix.bias.defined() ? matrix.bias : zeros_);
      const auto sum = sums.find(slot.name);
      const bool summed = sum != sums.end(), trained = summed && records_ && sum->second.coefficients.requires_grad();
      if (trained && lowest_ == kNowhere) lowest_ = kPlaces * block + place;
      keeps_.mixed |= trained && place == kProj;
      keeps_.pre |= trained && place == kFc2;
      p.forward = summed ? engine_->template sum<S>(slot, sum->second, Side::kForward)
                         : engine_->template frozen<S>(slot, Side::kForward);
      if (!records_) continue;
      if (trained) p.trained = train(slot, sum->second, first.at(slot.name));
      if (!reaches(block, place) || (p.trained && !p.trained->by_row)) continue;
      p.backward = summed ? engine_->template sum<S>(slot, sum->second, Side::kBackward)
                          : engine_->template frozen<S>(slot, Side::kBackward);
    }
  }
}

template <class S>
Kept<S> Call<S>::kept(Index group, Index block) {
  Pieces pieces(data<char>(memory_) + group * group_bytes_ + (block - lowest_ / kPlaces) * block_bytes_);
  return lay_out_block<S>(z_, keeps_, pieces);
}

template <class S>
Kept<S> Call<S>::last_kept(Index group) {
  Pieces pieces(data<char>(memory_) + group * group_bytes_ + (depth_ - lowest_ / kPlaces) * block_bytes_);
  return lay_out_last<S>(z_.group * last_rows(), z_.D, pieces);
}

// ---- forward -------------------------------------------------------------------------------------------------------

/// Norm, and the projection to queries, keys and values, of the rows [begin, end) of a group.
template <class S>
void Call<S>::first_half(Index block, float* x, Kept<S>& k, Index begin, Index end, Scratch<S>& s) {
  const VitPass::Norm& norm = engine_->blocks[static_cast<std::size_t>(block)].norm1;
  const Index T = z_.T, D = z_.D, R = end - begin;
  const bool keep = keeps(block), one_query = rows(block) == 1;
  rows_.norm(R, D, x + begin * D, data<float>(norm.gain), data<float>(norm.bias),
             static_cast<float>(engine_->config.norm_eps), s.a, keep ? k.x1 + begin * D : nullptr,
             keep ? k.mean1 + begin : nullptr, keep ? k.rstd1 + begin : nullptr);
  const Product<S>& p = product(block, kQkv);
  for (Index panel = 0; panel < p.forward.count(); ++panel) {
    const Index column = panel * kPanel, width = p.forward.width(panel);
    const auto project = [&](Index first, Index count) {
      multiply<S>(count, width, D, s.a + (first - begin) * D, D, p.forward.at(panel), kPanel, s.c, kPanel);
      rows_.store(count, width, s.c, kPanel, p.bias + column, nullptr, k.qkv + first * 3 * D + column, 3 * D);
    };
    if (!one_query || column + width > D)
      project(begin, R);
    else
      for (Index row = round_up(begin, T); row < end; row += T) project(row, 1);
  }
}

/// One head of one image of a group, all queries.
template <class S>
void Call<S>::attend(Index block, Kept<S>& k, Index image, Index head, Scratch<S>& s) {
  const Index T = z_.T, D = z_.D, d = z_.d, padded = z_.padded, queries = rows(block);
  const S *q = k.qkv + image * T * 3 * D + head * d, *key = q + D, *value = q + 2 * D;
  rows_.pack_transposed(d, T, key, 3 * D, s.right, padded);
  multiply<S>(queries, padded, d, q, 3 * D, s.right, padded, s.scores, padded);
  float* const sums = keeps(block) ? k.sums + (image * z_.H + head) * T : nullptr;
  rows_.softmax(queries, T, padded, scale_, s.scores, s.shares, sums);
  rows_.pack_straight(T, padded, d, value, 3 * D, s.right, d);
  multiply<S>(queries, d, padded, s.shares, padded, s.right, d, s.small, d);
  rows_.store(queries, d, s.small, d, nullptr, nullptr, k.mixed + image * queries * D + head * d, D);
}

/// What follows attention, of the rows [begin, end) of those that matter.
template <class S>
void Call<S>::second_half(Index block, float* x, Kept<S>& k, Index begin, Index end, Scratch<S>& s) {
  const VitPass::Block& own = engine_->blocks[static_cast<std::size_t>(block)];
  const Index D = z_.D, M = z_.M, R = end - begin;
  if (R <= 0) return;
  const bool keep = keeps(block);
  float* const rows = x + begin * D;
  const auto scale = [](const at::Tensor& scale, Index column) {
    return scale.defined() ? data<float>(scale) + column : nullptr;
  };
  const auto run = [&](Place place, const S* from, Index K, const auto& finish) {
    const Product<S>& p = product(block, place);
    for (Index panel = 0; panel < p.forward.count(); ++panel) {
      const Index column = panel * kPanel, width = p.forward.width(panel);
      multiply<S>(R, width, K, from, K, p.forward.at(panel), kPanel, s.c, kPanel);
      finish(column, width, p.bias + column);
    }
  };
  run(kProj, k.mixed + begin * D, D, [&](Index column, Index width, const float* bias) {
    rows_.add(R, width, s.c, kPanel, bias, scale(own.attn_scale, column), rows + column, D);
  });
  rows_.norm(R, D, rows, data<float>(own.norm2.gain), data<float>(own.norm2.bias),
             static_cast<float>(engine_->config.norm_eps), s.a, keep ? k.x2 + begin * D : nullptr,
             keep ? k.mean2 + begin : nullptr, keep ? k.rstd2 + begin : nullptr);
  run(kFc1, s.a, D, [&](Index column, Index width, const float* bias) {
    const Index first = begin * M + column;
    rows_.gelu(R, width, s.c, kPanel, bias, k.pre ? k.pre + first : nullptr, k.slope ? k.slope + first : nullptr,
               s.hidden + column, M);
  });
  run(kFc2, s.hidden, M, [&](Index column, Index width, const float* bias) {
    rows_.add(R, width, s.c, kPanel, bias, scale(own.mlp_scale, column), rows + column, D);
  });
}

/// The last norm, and what of it becomes features.
template <class S>
void Call<S>::pool(Index group, float* x, Scratch<S>& s) {
  const Index D = z_.D, images = images_of(group), each = last_rows(), R = images * each;
  const Kept<S> k = records_ ? last_kept(group) : Kept<S>{};
  // Features are fp32 whatever the products are.
  const kernels::ActivationKernels<float>& exact = kernels::activation_kernels<float>(isa());
  const float eps = static_cast<float>(engine_->config.norm_eps);
  exact.norm(R, D, x, data<float>(engine_->norm.gain), data<float>(engine_->norm.bias), eps, s.d_norm, nullptr, nullptr,
             nullptr);
  if (records_)
    rows_.norm(R, D, x, data<float>(engine_->norm.gain), data<float>(engine_->norm.bias), eps, s.a, k.x1, k.mean1,
               k.rstd1);
  for (Index image = 0; image < images; ++image) {
    const float* const y = s.d_norm + image * each * D;
    float* out = data<float>(features_) + (first_of(group) + image) * features_.size(1);
    if (engine_->config.pooling != "average") {
      std::memcpy(out, y, static_cast<std::size_t>(D) * sizeof(float));
      out += D;
    }
    if (token_only()) continue;
    const Index first = prefix();
    for (Index i = 0; i < D; ++i) {
      double sum = 0;
      for (Index t = first; t < each; ++t) sum += y[t * D + i];
      out[i] = static_cast<float>(sum / static_cast<double>(each - first));
    }
  }
}

template <class S>
void Call<S>::run_group(Index group, Scratch<S>& s) {
  const Index T = z_.T, D = z_.D, images = images_of(group);
  float* x = data<float>(tokens_) + first_of(group) * T * D;
  for (Index block = 0; block < depth_; ++block) {
    Kept<S> k = keeps(block) ? kept(group, block) : Kept<S>{};
    if (!k.qkv) k.qkv = s.d_qkv;
    if (!k.mixed) k.mixed = s.mixed;
    first_half(block, x, k, 0, images * T, s);
    for (Index image = 0; image < images; ++image)
      for (Index head = 0; head < z_.H; ++head) attend(block, k, image, head, s);
    if (rows(block) == 1)  // the first rows of the images, one after the other
      for (Index image = 1; image < images; ++image) std::copy_n(x + image * T * D, D, x + image * D);
    second_half(block, x, k, 0, images * rows(block), s);
  }
  pool(group, x, s);
}

/// Memory of several threads.
template <class S>
class Scratches {
 public:
  Scratches(const Sizes& sizes, Index templates, Index threads) {
    Pieces measured(nullptr);
    lay_out<S>(sizes, templates, measured);
    const Index bytes = round_up(measured.bytes(), 4096);
    memory_ = at::empty({threads * bytes}, at::TensorOptions(at::kByte));
    for (Index i = 0; i < threads; ++i) {
      Pieces pieces(data<char>(memory_) + i * bytes);
      all_.push_back(lay_out<S>(sizes, templates, pieces));
    }
  }
  /// Of the thread that asks, within at::parallel_for().
  Scratch<S>& mine() { return all_[static_cast<std::size_t>(at::get_thread_num())]; }

 private:
  at::Tensor memory_;
  std::vector<Scratch<S>> all_;
};

/// Each group by one thread, from beginning to end.
template <class S>
void Call<S>::run_groups() {
  Scratches<S> scratches(z_, 0, at::get_num_threads());
  at::parallel_for(0, z_.groups, 1, [&](Index begin, Index end) {
    const Tiles tiles;
    for (Index group = begin; group < end; ++group) run_group(group, scratches.mine());
  });
}

/// All threads at runs of rows, then at heads, block by block: where there are not images enough for all of them. Each
/// is a group.
template <class S>
void Call<S>::run_rows() {
  const Index T = z_.T, threads = at::get_num_threads();
  const Index runs = (threads + images_ - 1) / images_, length = round_up((T + runs - 1) / runs, 16);
  Scratches<S> scratches(z_, 0, threads);
  const at::Tensor shared = at::empty({images_, T, 4 * z_.D}, at::TensorOptions(kDtype<S>));
  const auto kept_of = [&](Index image, Index block) {
    Kept<S> k = keeps(block) ? kept(image, block) : Kept<S>{};
    S* const own = data<S>(shared) + image * T * 4 * z_.D;
    if (!k.qkv) k.qkv = own;
    if (!k.mixed) k.mixed = own + T * 3 * z_.D;
    return k;
  };
  const auto in_parallel = [&](Index units, const auto& work) {
    at::parallel_for(0, images_ * units, 1, [&](Index begin, Index end) {
      const Tiles tiles;
      for (Index i = begin; i < end; ++i) work(i / units, i % units, scratches.mine());
    });
  };
  const auto x = [&](Index image) { return data<float>(tokens_) + image * T * z_.D; };
  const auto end = [&](Index run) { return std::min(T, (run + 1) * length); };
  for (Index block = 0; block < depth_; ++block) {
    in_parallel(runs, [&](Index image, Index run, Scratch<S>& s) {
      Kept<S> k = kept_of(image, block);
      if (run * length < T) first_half(block, x(image), k, run * length, end(run), s);
    });
    in_parallel(z_.H, [&](Index image, Index head, Scratch<S>& s) {
      Kept<S> k = kept_of(image, block);
      attend(block, k, 0, head, s);
    });
    in_parallel(runs, [&](Index image, Index run, Scratch<S>& s) {
      Kept<S> k = kept_of(image, block);
      second_half(block, x(image), k, run * length, std::min(end(run), rows(block)), s);
    });
  }
  for (Index image = 0; image < images_; ++image) pool(image, x(image), scratches.mine());
}

template <class S>
at::Tensor Call<S>::forward() {
  const bool both = engine_->config.pooling == "token+average";
  features_ = at::empty({images_, both ? 2 * z_.D : z_.D}, at::kFloat);
  if (images_ < at::get_num_threads())
    run_rows();
  else
    run_groups();
  return std::exchange(features_, {});  // which autograd makes an owner of this call
}

// ---- backward ------------------------------------------------------------------------------------------------------

/// <c, other> of the columns [column, column + width) of a product, to the image and the block that each belongs to.
template <class S>
void Call<S>::dots(const Trained<S>& t, Index i, Index images, Index R, const float* c, Index column, Index width,
                   const S* other, Index ldo, double* gradient) {
  const Index each = R / images;
  for (Index at = 0; at < width;) {
    const Index block = t.blocks == 1 ? 0 : (column + at) / t.length;
    const Index end = t.blocks == 1 ? width : std::min(width, (block + 1) * t.length - column);
    for (Index image = 0; image < images; ++image)
      gradient[image * coefficients_ + t.first + block * t.n + i] +=
          rows_.dot(each, end - at, c + image * each * kPanel + at, kPanel, other + image * each * ldo + at, ldo);
    at = end;
  }
}

template <class S>
template <class Finish>
void Call<S>::product_backward(const Product<S>& p, Index images, Index R, const S* dy, Index ldy, const S* x,
                               Index ldx, bool passes, double* gradient, Scratch<S>& s, const Finish& finish) {
  const Index step = R * kPanel;
  if (p.trained && !p.trained->by_row) {
    const Trained<S>& t = *p.trained;
    const Panels<S>& first = t.templates[0];
    for (Index panel = 0; panel < first.count(); ++panel) {
      const Index column = panel * kPanel, width = first.width(panel);
      for (Index i = 0; i < t.n; ++i) {
        float* const c = s.c + (i + 1) * step;
        multiply<S>(R, width, first.K, dy, ldy, t.templates[static_cast<std::size_t>(i)].at(panel), kPanel, c, kPanel);
        dots(t, i, images, R, c, column, width, x + column, ldx, gradient);
      }
      if (!passes) continue;
      rows_.combine(R, width, t.n, s.c + step, step, kPanel, t.factor.data() + column, first.N, s.c, kPanel);
      finish(s.c, column, width);
    }
    return;
  }
  if (passes)
    for (Index panel = 0; panel < p.backward.count(); ++panel) {
      const Index width = p.backward.width(panel);
      multiply<S>(R, width, p.backward.K, dy, ldy, p.backward.at(panel), kPanel, s.c, kPanel);
      finish(s.c, panel * kPanel, width);
    }
  if (!p.trained) return;
  const Trained<S>& t = *p.trained;
  for (Index i = 0; i < t.n; ++i) {
    const Panels<S>& side = t.templates[static_cast<std::size_t>(i)];
    for (Index panel = 0; panel < side.count(); ++panel) {
      const Index column = panel * kPanel, width = side.width(panel);
      multiply<S>(R, width, side.K, x, ldx, side.at(panel), kPanel, s.c, kPanel);
      dots(t, i, images, R, s.c, column, width, dy + column, ldy, gradient);
    }
  }
}

/// With P the shares and G the gradient of what was mixed: dV = P^T G, dP = G V^T, dS by softmax, dQ = dS K s and
/// dK = dS^T (s Q). All of it transposed, keys down and queries across: then P^T and dS^T are left sides as they are,
/// and D, the sums over the keys, is a sum of rows.
template <class S>
void Call<S>::attend_backward(Index block, const Kept<S>& k, Index image, Index head, Scratch<S>& s) {
  const Index T = z_.T, D = z_.D, d = z_.d, keys = z_.padded, queries = rows(block), across = round_up(queries, 16);
  const S *q = k.qkv + image * T * 3 * D + head * d, *key = q + D, *value = q + 2 * D;
  const S* const g = s.b + image * queries * D + head * d;
  S *dq = s.d_qkv + image * T * 3 * D + head * d, *dk = dq + D, *dv = dq + 2 * D;
  rows_.pack_transposed(d, queries, q, 3 * D, s.right, across);
  multiply<S>(T, across, d, key, 3 * D, s.right, across, s.scores, across);
  rows_.shares(T, queries, across, scale_, s.scores, k.sums + (image * z_.H + head) * T, s.scores, s.shares);
  rows_.pack_straight(queries, across, d, g, D, s.right, d);
  multiply<S>(T, d, across, s.shares, across, s.right, d, s.small, d);
  rows_.store(T, d, s.small, d, nullptr, nullptr, dv, 3 * D);
  rows_.pack_transposed(d, queries, g, D, s.right, across);
  multiply<S>(T, across, d, value, 3 * D, s.right, across, s.d_scores, across);
  rows_.shares_gradient(T, keys, queries, across, scale_, s.scores, s.d_scores, s.small, s.d_shares, s.pairs);
  rows_.pack_straight(queries, across, d, q, 3 * D, s.right, d);
  multiply<S>(T, d, across, s.d_shares, across, s.right, d, s.small, d);
  rows_.store(T, d, s.small, d, nullptr, nullptr, dk, 3 * D);
  rows_.transpose(T, keys, d, key, 3 * D, s.right, keys);
  multiply<S>(d, across, keys, s.right, keys, s.pairs, across, s.scores, across);
  rows_.store_transposed(d, queries, s.scores, across, dq, 3 * D);
}

template <class S>
void Call<S>::group_backward(Index group, const float* d_features, double* gradient, Scratch<S>& s) {
  const Index T = z_.T, D = z_.D, M = z_.M, images = images_of(group), all = images * T;
  float* d = token_only() ? s.d_last : s.d;  // of the rows that matter
  {
    const Kept<S> k = last_kept(group);
    const Index each = last_rows(), R = images * each, first = prefix();
    std::fill_n(d, R * D, 0.f);
    std::fill_n(s.d_norm, R * D, 0.f);
    for (Index image = 0; image < images; ++image) {
      const bool token = engine_->config.pooling != "average";
      float* const d_norm = s.d_norm + image * each * D;
      if (token) std::copy_n(d_features, D, d_norm);
      if (!token_only()) {
        const float* const average = d_features + (token ? D : 0);
        const float share = 1.f / static_cast<float>(T - first);
        for (Index t = first; t < T; ++t)
          for (Index i = 0; i < D; ++i) d_norm[t * D + i] += average[i] * share;
      }
      d_features += token && !token_only() ? 2 * D : D;
    }
    rows_.norm_gradient(R, D, s.d_norm, k.x1, k.mean1, k.rstd1, data<float>(engine_->norm.gain), d);
  }
  const auto scale = [](const at::Tensor& scale) { return scale.defined() ? data<float>(scale) : nullptr; };
  for (Index block = depth_ - 1; block >= lowest_ / kPlaces; --block) {
    const VitPass::Block& own = engine_->blocks[static_cast<std::size_t>(block)];
    const Kept<S> k = kept(group, block);
    const Index each = rows(block), R = images * each;
    const auto to_d_norm = [&](Index R) {
      return [&, R](const float* c, Index column, Index width) {
        for (Index r = 0; r < R; ++r)
          std::memcpy(s.d_norm + r * D + column, c + r * kPanel, static_cast<std::size_t>(width) * sizeof(float));
      };
    };
    const auto passes = [&](Place place) { return reaches(block, place); };
    const auto trains = [&](Place place) { return product(block, place).trained.has_value(); };

    rows_.store(R, D, d, D, nullptr, scale(own.mlp_scale), s.b, D);
    const kernels::Slope<S>* slope = k.slope;
    if (k.pre) {
      rows_.gelu_again(R, M, k.pre, s.slope, s.hidden, M);
      slope = s.slope;
    }
    product_backward(product(block, kFc2), images, R, s.b, D, s.hidden, M, passes(kFc2), gradient, s,
                     [&](const float* c, Index column, Index width) {
                       rows_.gelu_gradient(R, width, c, kPanel, slope + column, s.d_hidden + column, M);
                     });
    if (!passes(kFc2)) break;
    if (trains(kFc1))
      rows_.norm_again(R, D, k.x2, k.mean2, k.rstd2, data<float>(own.norm2.gain), data<float>(own.norm2.bias), s.a);
    product_backward(product(block, kFc1), images, R, s.d_hidden, M, s.a, D, passes(kFc1), gradient, s, to_d_norm(R));
    if (!passes(kFc1)) break;
    rows_.norm_gradient(R, D, s.d_norm, k.x2, k.mean2, k.rstd2, data<float>(own.norm2.gain), d);

    rows_.store(R, D, d, D, nullptr, scale(own.attn_scale), s.a, D);
    product_backward(product(block, kProj), images, R, s.a, D, k.mixed, D, passes(kProj), gradient, s,
                     [&](const float* c, Index column, Index width) {
                       rows_.store(R, width, c, kPanel, nullptr, nullptr, s.b + column, D);
                     });
    if (!passes(kProj)) break;
    for (Index image = 0; image < images; ++image) {
      for (Index t = each; t < T; ++t)
        std::memset(s.d_qkv + (image * T + t) * 3 * D, 0, static_cast<std::size_t>(D) * sizeof(S));
      for (Index head = 0; head < z_.H; ++head) attend_backward(block, k, image, head, s);
    }
    if (trains(kQkv))
      rows_.norm_again(all, D, k.x1, k.mean1, k.rstd1, data<float>(own.norm1.gain), data<float>(own.norm1.bias), s.a);
    product_backward(product(block, kQkv), images, all, s.d_qkv, 3 * D, s.a, D, passes(kQkv), gradient, s,
                     to_d_norm(all));
    if (!passes(kQkv)) break;
    if (d != s.d) {  // all rows matter from here on
      std::fill_n(s.d, all * D, 0.f);
      for (Index image = 0; image < images; ++image) std::copy_n(d + image * D, D, s.d + image * T * D);
      d = s.d;
    }
    rows_.norm_gradient(all, D, s.d_norm, k.x1, k.mean1, k.rstd1, data<float>(own.norm1.gain), d);
  }
}

template <class S>
at::Tensor Call<S>::backward(const at::Tensor& d_features) {
  const at::Tensor d = d_features.to(at::kFloat).contiguous();
  const at::Tensor gradients = at::zeros({images_, coefficients_}, at::kDouble);
  Scratches<S> scratches(z_, most_templates_, at::get_num_threads());
  at::parallel_for(0, z_.groups, 1, [&](Index begin, Index end) {
    const Tiles tiles;
    for (Index group = begin; group < end; ++group)
      group_backward(group, data<float>(d) + first_of(group) * d.size(1),
                     data<double>(gradients) + first_of(group) * coefficients_, scratches.mine());
  });
  // Image by image: the order in which at::sum() adds up a column depends on the number of threads.
  double* const sum = data<double>(gradients);
  for (Index image = 1; image < images_; ++image)
    for (Index i = 0; i < coefficients_; ++i) sum[i] += sum[image * coefficients_ + i];
  return gradients[0].to(at::kFloat);
}

struct VitFunction : torch::autograd::Function<VitFunction> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& coefficients,
                            const c10::intrusive_ptr<VitCall>& call) {
    context->save_for_backward({coefficients});
    context->saved_data["call"] = c10::IValue::make_capsule(call);
    const at::AutoDispatchBelowADInplaceOrView no_autograd;
    return call->forward();
  }

  static torch::autograd::tensor_list backward(torch::autograd::AutogradContext* context,
                                               const torch::autograd::tensor_list& gradients) {
    const auto call = c10::static_intrusive_pointer_cast<VitCall>(context->saved_data["call"].toCapsule());
    if (!c10::GradMode::is_enabled()) return {call->backward(gradients[0]), at::Tensor()};
    // The gradient is to be differentiated itself.
    const at::Tensor coefficients = context->get_saved_variables()[0];
    BankSums sums;
    Index at = 0;
    for (const auto& [name, sum] : call->sums) {
      sums[name] = {coefficients.narrow(0, at, sum.coefficients.numel()).view(sum.coefficients.sizes()), sum.blocks};
      at += sum.coefficients.numel();
    }
    const at::Tensor features = call->again(sums);
    return {torch::autograd::grad({features}, {coefficients}, {gradients[0]}, /*retain_graph=*/true,
                                  /*create_graph=*/true)[0],
            at::Tensor()};
  }
};

template <class S>
at::Tensor features_of(const std::shared_ptr<VitEngine>& engine, const at::Tensor& tokens, const BankSums& sums,
                       const VitPass::Again& again) {
  bool records = false;
  std::vector<at::Tensor> coefficients;
  for (const auto& [name, sum] : sums) {
    coefficients.push_back(sum.coefficients.flatten());
    records |= sum.coefficients.requires_grad();
  }
  records &= c10::GradMode::is_enabled();
  const auto call = c10::make_intrusive<Call<S>>(engine, tokens, sums, records);
  if (!records) return call->forward();
  call->again = again;
  return VitFunction::apply(at::cat(coefficients), call);
}

}  // namespace

VitPass::VitPass(const VitConfig& config, std::vector<Block> blocks, Norm norm, Weight weight)
    : engine_(std::make_shared<VitEngine>(config, std::move(blocks), std::move(norm), std::move(weight))) {}

VitPass::~VitPass() = default;

std::string VitPass::why_not(const VitConfig& config, at::ScalarType dtype) {
  const auto odd = [](Index n) { return n % 2 != 0; };
  if (!at::globalContext().userEnabledMkldnn()) return "oneDNN is switched off";
  if (dtype == at::kBFloat16) {
    if (!multiplies<bf16>()) return "this processor has no products of bf16";
    if (odd(config.width) || odd(config.mlp_width) || odd(config.width / config.heads))
      return "products of bf16 take numbers in pairs, a width is odd";
    return {};
  }
  if (dtype != at::kFloat) return "products are of fp32 or bf16";
  return multiplies<float>() ? "" : "oneDNN has no products of fp32 on this processor";
}

at::Tensor VitPass::features(const at::Tensor& tokens, const BankSums& sums, at::ScalarType dtype,
                             const Again& again) const {
  RECAST_ASSERT(tokens.is_contiguous() && tokens.scalar_type() == at::kFloat);
  return dtype == at::kBFloat16 ? features_of<bf16>(engine_, tokens, sums, again)
                                : features_of<float>(engine_, tokens, sums, again);
}

}  // namespace recast
