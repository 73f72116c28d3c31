#pragma once
#include <ATen/core/Tensor.h>
#include <ATen/native/CPUBlas.h>

#include <algorithm>
#include <cstdint>

#include "kernels/rows.h"

/// Products X B whose right side lies packed: B [K, N] in panels of 64 columns, so that a panel and what it gives stay in
/// a first-level cache. S: storage of both sides, float or bf16; sums are fp32. Products are oneDNN's, through libtorch.
namespace recast::vit_pass {

using kernels::bf16;
using Index = std::int64_t;

constexpr Index kPanel = 64;

template <class S>
S* data(const at::Tensor& tensor) {
  return static_cast<S*>(tensor.data_ptr());
}

/// The right side of a product, packed.
template <class S>
struct Panels {
  at::Tensor memory;
  Index K = 0, N = 0;

  Index count() const { return (N + kPanel - 1) / kPanel; }
  Index width(Index panel) const { return std::min(kPanel, N - panel * kPanel); }
  const S* at(Index panel) const { return data<S>(memory) + panel * K * kPanel; }
};

/// Of weight [out, in]: forward x W^T, backward dY W.
enum class Side { kForward, kBackward };

template <class S>
constexpr at::ScalarType kDtype = sizeof(S) == 2 ? at::kBFloat16 : at::kFloat;

/// c [M, N] = a [M, K] b, b packed.
template <class S>
void multiply(Index M, Index N, Index K, const S* a, Index lda, const S* b, Index ldb, float* c, Index ldc) {
  if constexpr (sizeof(S) == 2) {
    at::native::cpublas::brgemm(M, N, K, lda, ldb, ldc, false, reinterpret_cast<const at::BFloat16*>(a),
                                reinterpret_cast<const at::BFloat16*>(b), c, /*is_vnni=*/true);
  } else {
    at::native::cpublas::brgemm(M, N, K, lda, ldb, ldc, false, a, b, c, /*is_vnni=*/false);
  }
}

/// For as long as a thread multiplies: what multiply() leaves in its tile registers is another's again in the end.
struct Tiles {
  Tiles() = default;
  Tiles(const Tiles&) = delete;
  ~Tiles() { at::native::cpublas::brgemm_release(); }
};

/// The widest instructions that libtorch found, or was held to.
kernels::Isa isa();

/// Whether oneDNN multiplies this dtype here, tried once: it throws where the processor does not.
template <class S>
bool multiplies();

/// A weight [out, in] or [out, in, ...], of any floating dtype.
template <class S>
Panels<S> pack(const at::Tensor& weight, Side side);

/// sum_i c_i T_i of templates [n, out, in], made and packed panel by panel, so that it never stands in memory; in `memory`
/// where that fits.
template <class S>
Panels<S> pack_sum(const at::Tensor& templates, const at::Tensor& coefficients, Side side, at::Tensor memory);

}  // namespace recast::vit_pass
