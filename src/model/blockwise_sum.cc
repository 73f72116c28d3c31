// RECAST's weights, made at every step of learning: bound by memory, so each template is read once and no copy of one
// is ever written. Sum and inner products are each other's adjoint: S: c -> sum_i c[b, i] T_i[b] has the gradient
// S*: G -> <G[b], T_i[b]>, and S* has S, which gives derivatives of any order.
#include "recast/model/blockwise_sum.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/ranges.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "recast/base/error.h"

namespace recast {
namespace {

/// Numbers added at a time; a loop of this length becomes vector instructions at -O2.
constexpr std::int64_t kLanes = 16;
/// Of the weight, between two looks at the templates: this much of it and of one template stay in a first-level cache.
constexpr std::int64_t kTile = 4096;
/// Of the weight, to one thread at a time. Fixed, so that partial sums do not depend on the number of threads.
constexpr std::int64_t kChunk = 1 << 16;

/// A weight in memory: lines of `line` numbers, each cut into segments of `segment` (the last may be shorter), the b-th
/// of which belongs to block b.
struct Layout {
  std::int64_t templates, size, line, segment, blocks;

  Layout(const at::Tensor& stack, const Blocks& cut) {
    const at::IntArrayRef shape = stack.sizes().slice(1);
    templates = stack.size(0);
    blocks = cut.count(shape);
    size = c10::multiply_integers(shape);
    const std::int64_t inner = c10::multiply_integers(shape.slice(cut.of_columns ? 2 : 1));
    line = cut.of_columns ? shape[1] * inner : size;
    segment = cut.length * inner;
  }

  std::int64_t chunks() const { return (size + kChunk - 1) / kChunk; }

  /// visit(block, first, last) for all tiles of a chunk, in order.
  template <class Visit>
  void for_tiles(std::int64_t chunk, const Visit& visit) const {
    const std::int64_t end = std::min((chunk + 1) * kChunk, size);
    for (std::int64_t at = chunk * kChunk; at < end;) {
      const std::int64_t place = at % line, block = place / segment;
      const std::int64_t border = at - place + std::min((block + 1) * segment, line);
      const std::int64_t last = std::min({border, end, at + kTile});
      visit(block, at, last);
      at = last;
    }
  }
};

template <class T>
void scale(T* __restrict to, const T* __restrict from, T factor, std::int64_t count) {
  std::int64_t k = 0;
  for (; k + kLanes <= count; k += kLanes)
    for (std::int64_t l = 0; l < kLanes; ++l) to[k + l] = factor * from[k + l];
  for (; k < count; ++k) to[k] = factor * from[k];
}

template <class T>
void add_scaled(T* __restrict to, const T* __restrict from, T factor, std::int64_t count) {
  std::int64_t k = 0;
  for (; k + kLanes <= count; k += kLanes)
    for (std::int64_t l = 0; l < kLanes; ++l) to[k + l] += factor * from[k + l];
  for (; k < count; ++k) to[k] += factor * from[k];
}

/// Numbers that every processor adds at once; four of them at a time hide the latency of an addition.
template <class T>
struct Lanes {
  typedef T Vector __attribute__((vector_size(16)));
  static constexpr std::int64_t kCount = 16 / sizeof(T);

  static Vector product(const T* a, const T* b) {
    Vector x, y;
    std::memcpy(&x, a, sizeof x);
    std::memcpy(&y, b, sizeof y);
    return x * y;
  }
};

/// At most kTile terms, so a lane adds few enough for fp32.
template <class T>
double inner_product(const T* a, const T* b, std::int64_t count) {
  using L = Lanes<T>;
  typename L::Vector s0{}, s1{}, s2{}, s3{};
  std::int64_t k = 0;
  for (; k + 4 * L::kCount <= count; k += 4 * L::kCount) {
    s0 += L::product(a + k, b + k);
    s1 += L::product(a + k + L::kCount, b + k + L::kCount);
    s2 += L::product(a + k + 2 * L::kCount, b + k + 2 * L::kCount);
    s3 += L::product(a + k + 3 * L::kCount, b + k + 3 * L::kCount);
  }
  const typename L::Vector lanes = (s0 + s1) + (s2 + s3);
  double sum = 0;
  for (std::int64_t l = 0; l < L::kCount; ++l) sum += lanes[l];
  for (; k < count; ++k) sum += static_cast<double>(a[k]) * b[k];
  return sum;
}

template <class T>
at::Tensor sum_in_one_pass(const at::Tensor& stack, const at::Tensor& coefficients, const Layout& layout) {
  const at::Tensor made = at::empty(stack.sizes().slice(1), stack.options());
  const T *t = stack.const_data_ptr<T>(), *c = coefficients.const_data_ptr<T>();
  T* w = made.mutable_data_ptr<T>();
  at::parallel_for(0, layout.chunks(), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t chunk = begin; chunk < end; ++chunk)
      layout.for_tiles(chunk, [&](std::int64_t block, std::int64_t first, std::int64_t last) {
        bool empty = true;
        for (std::int64_t i = 0; i < layout.templates; ++i) {
          const T factor = c[block * layout.templates + i];
          if (factor == 0) continue;
          const T* from = t + i * layout.size + first;
          empty ? scale(w + first, from, factor, last - first) : add_scaled(w + first, from, factor, last - first);
          empty = false;
        }
        if (empty) std::fill(w + first, w + last, T{0});
      });
  });
  return made;
}

template <class T>
at::Tensor products_in_one_pass(const at::Tensor& stack, const at::Tensor& gradient, const Layout& layout) {
  const std::int64_t n = layout.templates, width = layout.blocks * n;
  std::vector<double> sums(static_cast<std::size_t>(layout.chunks() * width));
  const T *t = stack.const_data_ptr<T>(), *g = gradient.const_data_ptr<T>();
  at::parallel_for(0, layout.chunks(), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t chunk = begin; chunk < end; ++chunk)
      layout.for_tiles(chunk, [&](std::int64_t block, std::int64_t first, std::int64_t last) {
        for (std::int64_t i = 0; i < n; ++i)
          sums[chunk * width + block * n + i] += inner_product(g + first, t + i * layout.size + first, last - first);
      });
  });
  const at::Tensor products = at::empty({layout.blocks, n}, stack.options());
  T* to = products.mutable_data_ptr<T>();
  for (std::int64_t at = 0; at < width; ++at) {
    double sum = 0;
    for (std::int64_t chunk = 0; chunk < layout.chunks(); ++chunk) sum += sums[chunk * width + at];
    to[at] = static_cast<T>(sum);
  }
  return products;
}

/// Either map, of coefficients or of a gradient; the other one is its derivative.
template <bool sums>
struct Map : torch::autograd::Function<Map<sums>> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& input, const at::Tensor& stack,
                            std::int64_t length, bool of_columns) {
    context->save_for_backward({stack});
    context->saved_data["length"] = length;
    context->saved_data["of_columns"] = of_columns;
    const Layout layout(stack, {length, of_columns});
    return stack.scalar_type() == at::kDouble ? run<double>(input, stack, layout) : run<float>(input, stack, layout);
  }

  static torch::autograd::tensor_list backward(torch::autograd::AutogradContext* context,
                                               const torch::autograd::tensor_list& gradients) {
    if (!gradients[0].defined()) return {{}, {}, {}, {}};
    return {Map<!sums>::apply(gradients[0].contiguous(), context->get_saved_variables()[0],
                              context->saved_data["length"].toInt(), context->saved_data["of_columns"].toBool()),
            {},
            {},
            {}};
  }

 private:
  template <class T>
  static at::Tensor run(const at::Tensor& input, const at::Tensor& stack, const Layout& layout) {
    return sums ? sum_in_one_pass<T>(stack, input, layout) : products_in_one_pass<T>(stack, input, layout);
  }
};

/// The same by operators that every device has.
at::Tensor plain_sum(const at::Tensor& stack, const at::Tensor& coefficients, const Blocks& blocks) {
  const std::int64_t side = blocks.of_columns ? 2 : 1, count = stack.size(side);
  const at::Tensor block_of = at::arange(count, coefficients.options().dtype(at::kLong)).floor_divide(blocks.length);
  std::vector<std::int64_t> shape(static_cast<std::size_t>(stack.dim()), 1);
  shape[0] = stack.size(0);
  shape[side] = count;
  return (stack * coefficients.index_select(0, block_of).t().reshape(shape)).sum(0);
}

}  // namespace

std::int64_t Blocks::count(at::IntArrayRef shape) const {
  const std::size_t side = of_columns ? 1 : 0;
  if (length < 1) fail(Code::kInvalidArgument, "[blocks] a block has at least one row or column, got {}", length);
  if (shape.size() <= side)
    fail(Code::kShapeMismatch, "[blocks] a weight of shape {} has no dimension {} to cut", fmt::join(shape, "x"), side);
  return (shape[side] + length - 1) / length;
}

at::Tensor blockwise_sum(const at::Tensor& templates, const at::Tensor& coefficients, const Blocks& blocks) {
  const bool stacked = templates.dim() > 1;
  const std::int64_t count = stacked ? blocks.count(templates.sizes().slice(1)) : 0;
  if (!stacked || coefficients.sizes() != at::IntArrayRef({count, templates.size(0)}) ||
      coefficients.scalar_type() != templates.scalar_type())
    fail(Code::kShapeMismatch,
         "[blocks] templates {} in {} blocks need as many coefficients each, of one dtype; got {}",
         fmt::join(templates.sizes(), "x"), count, fmt::join(coefficients.sizes(), "x"));
  const bool ours = templates.is_cpu() && templates.is_contiguous() &&
                    (templates.scalar_type() == at::kFloat || templates.scalar_type() == at::kDouble);
  if (!ours) return plain_sum(templates, coefficients, blocks);
  return Map</*sums=*/true>::apply(coefficients.contiguous(), templates, blocks.length, blocks.of_columns);
}

}  // namespace recast
