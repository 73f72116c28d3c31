#include "attention.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/native/CPUBlas.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <cstring>

namespace recast {
namespace {

/// Scores of the heads that a thread works on at a time: with three such buffers in backward and the heads' own rows a
/// second-level cache of 1 to 2 MiB holds all. At least one head.
constexpr std::int64_t kScoreBytes = 320 << 10;

/// [B, T, 3 D] as [3, B, H, T, d], a view where the memory is in order; the last stride is 1.
at::Tensor split_heads(const at::Tensor& qkv, std::int64_t heads) {
  const std::int64_t B = qkv.size(0), T = qkv.size(1), D = qkv.size(2) / 3;
  return qkv.contiguous().view({B, T, 3, heads, D / heads}).permute({2, 0, 3, 1, 4});
}

/// [B, H, T, d] as [B, T, D]: no copy where the memory is in that order.
at::Tensor join_heads(const at::Tensor& mixed) { return mixed.transpose(1, 2).flatten(2); }

double scale(const at::Tensor& heads) { return 1 / std::sqrt(static_cast<double>(heads.size(-1))); }

/// to = from, both [h, T, d] of one dtype with a last stride of 1. copy_() takes such short rows element by element.
void copy_rows(const at::Tensor& to, const at::Tensor& from) {
  const std::int64_t size = from.element_size();
  const std::size_t bytes = static_cast<std::size_t>(from.size(2) * size);
  auto* target = static_cast<char*>(to.data_ptr());
  const auto* source = static_cast<const char*>(from.const_data_ptr());
  for (std::int64_t h = 0; h < from.size(0); ++h)
    for (std::int64_t t = 0; t < from.size(1); ++t)
      std::memcpy(target + (h * to.stride(0) + t * to.stride(1)) * size,
                  source + (h * from.stride(0) + t * from.stride(1)) * size, bytes);
}

/// Operators that autograd knows.
at::Tensor plain_attention(const at::Tensor& qkv, std::int64_t heads) {
  const at::Tensor x = split_heads(qkv, heads);
  const at::Tensor shares = at::softmax(at::matmul(x[0] * scale(x), x[1].transpose(2, 3)), -1);
  return join_heads(at::matmul(shares, x[2]));
}

/// The heads [begin, end) of one image, and the buffers of the thread that works on them.
class HeadRun {
 public:
  HeadRun(const at::Tensor& heads, std::int64_t count)
      : rows_(at::empty({3, count, heads.size(3), heads.size(4)}, heads.options())),
        scores_(at::empty({count, heads.size(3), heads.size(3)}, heads.options())),
        shares_(at::empty_like(scores_)),
        scale_(scale(heads)) {}

  /// Takes q, k, v [3, h, T, d] in order into its buffers, q scaled, and makes the shares.
  void take(const at::Tensor& heads) {
    count_ = heads.size(1);
    q = part(rows_[0]);
    k = part(rows_[1]);
    v = part(rows_[2]);
    copy_rows(q, heads[0]);
    copy_rows(k, heads[1]);
    copy_rows(v, heads[2]);
    q.mul_(scale_);
    scores = part(scores_);
    shares = part(shares_);
    at::bmm_out(scores, q, k.transpose(1, 2));
    at::_softmax_out(shares, scores, -1, false);
  }

  double scale_of_q() const { return scale_; }
  at::Tensor part(const at::Tensor& buffer) const { return buffer.slice(0, 0, count_); }

  at::Tensor q, k, v, scores, shares;

 private:
  at::Tensor rows_, scores_, shares_;
  double scale_;
  std::int64_t count_ = 0;
};

/// Calls visit(run, image, first, last) for all heads of all images, several threads at once.
template <class Visit>
void for_heads(const at::Tensor& heads, const Visit& visit) {
  const std::int64_t B = heads.size(1), H = heads.size(2), T = heads.size(3);
  const std::int64_t per_thread = std::max<std::int64_t>(1, B * H / at::get_num_threads());
  const std::int64_t fit = std::max<std::int64_t>(1, kScoreBytes / (T * T * heads.element_size()));
  const std::int64_t length = std::min({fit, per_thread, H});
  const std::int64_t runs = (H + length - 1) / length;
  at::parallel_for(0, B * runs, 1, [&](std::int64_t begin, std::int64_t end) {
    const at::AutoDispatchBelowADInplaceOrView no_autograd;
    HeadRun run(heads, length);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t image = i / runs, first = i % runs * length;
      const std::int64_t last = std::min(first + length, H);
      run.take(heads.select(1, image).slice(1, first, last));
      visit(run, image, first, last);
    }
  });
}

at::Tensor mix(const at::Tensor& qkv, std::int64_t count) {
  const at::Tensor heads = split_heads(qkv, count);
  const std::int64_t T = heads.size(3), d = heads.size(4);
  const at::Tensor mixed = at::empty({heads.size(1), T, count, d}, heads.options()).transpose(1, 2);  // [B, H, T, d]
  for_heads(heads, [&](HeadRun& run, std::int64_t image, std::int64_t first, std::int64_t last) {
    at::bmm_out(run.q, run.shares, run.v);  // q is not needed any more
    copy_rows(mixed[image].slice(0, first, last), run.q);
  });
  return join_heads(mixed);
}

/// With P the shares and G the gradient of what was mixed: dV = P^T G, dP = G V^T, dS by softmax, dQ = dS K s and
/// dK = dS^T (s Q).
at::Tensor mix_gradient(const at::Tensor& qkv, std::int64_t count, const at::Tensor& gradient) {
  const at::Tensor heads = split_heads(qkv, count);
  const at::Tensor out = at::empty(qkv.sizes(), qkv.options()), grads = split_heads(out, count);
  const at::Tensor incoming =
      gradient.contiguous().view({heads.size(1), heads.size(3), count, heads.size(4)}).transpose(1, 2);  // [B, H, T, d]
  for_heads(heads, [&](HeadRun& run, std::int64_t image, std::int64_t first, std::int64_t last) {
    const at::Tensor mine = grads.select(1, image).slice(1, first, last);
    const at::Tensor g = at::empty_like(run.q);
    copy_rows(g, incoming[image].slice(0, first, last));
    copy_rows(mine[2], at::bmm(run.shares.transpose(1, 2), g));
    at::bmm_out(run.scores, g, run.v.transpose(1, 2));
    const at::Tensor d_scores = at::_softmax_backward_data(run.scores, run.shares, -1, run.shares.scalar_type());
    copy_rows(mine[1], at::bmm(d_scores.transpose(1, 2), run.q));
    at::bmm_out(run.v, d_scores, run.k);
    copy_rows(mine[0], run.v.mul_(run.scale_of_q()));
  });
  return out;
}

/// Without backward. The fused operator packs its operands for AMX, where there is that, and is a tenth faster then;
/// on other processors that multiply bf16 it takes twice the time.
bool ours_is_faster(at::ScalarType dtype) {
  return dtype == at::kFloat || (dtype == at::kBFloat16 && !at::native::cpublas::could_pack(at::kBFloat16));
}

struct SelfAttention : torch::autograd::Function<SelfAttention> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& qkv, std::int64_t heads) {
    context->save_for_backward({qkv});
    context->saved_data["heads"] = heads;
    return mix(qkv, heads);
  }

  static torch::autograd::tensor_list backward(torch::autograd::AutogradContext* context,
                                               const torch::autograd::tensor_list& gradients) {
    const at::Tensor qkv = context->get_saved_variables()[0];
    const std::int64_t heads = context->saved_data["heads"].toInt();
    if (!c10::GradMode::is_enabled()) return {mix_gradient(qkv, heads, gradients[0]), at::Tensor()};
    // The gradient is to be differentiated itself: operators that autograd knows give it.
    const at::Tensor out = plain_attention(qkv, heads);
    return {torch::autograd::grad({out}, {qkv}, {gradients[0]}, /*retain_graph=*/true, /*create_graph=*/true)[0],
            at::Tensor()};
  }
};

}  // namespace

at::Tensor self_attention(const at::Tensor& qkv, std::int64_t heads) {
  const bool recorded = qkv.requires_grad() && c10::GradMode::is_enabled();
  if (qkv.is_cpu() && recorded && (qkv.scalar_type() == at::kBFloat16 || qkv.scalar_type() == at::kFloat)) {
    return SelfAttention::apply(qkv, heads);
  }
  if (qkv.is_cpu() && ours_is_faster(qkv.scalar_type())) return mix(qkv, heads);
  const at::Tensor x = split_heads(qkv, heads);
  return join_heads(at::scaled_dot_product_attention(x[0], x[1], x[2]));
}

}  // namespace recast
