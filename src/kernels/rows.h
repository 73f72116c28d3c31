#pragma once
#include <cstdint>
#include <type_traits>

/// Plain-pointer arithmetic on the rows of activations, for a pass that stays within a core's cache: no torch, no
/// containers, no threads. One source (rows.inc) compiled once for each instruction set.
namespace recast::kernels {

/// Storage of an activation: fp32, or bf16 as its upper 16 bits, rounded to nearest even.
using bf16 = std::uint16_t;

/// Storage of gelu', which lies between -0.13 and 1.13: fp32, or beside bf16 steps of 0.005, with 0 and 1 among them. That
/// is off by 0.0025 at most, no more than bf16 is just above 0.5.
template <class S>
using Slope = std::conditional_t<sizeof(S) == 2, std::uint8_t, float>;

/// What stands between two matrix products. S: storage of activations. Arithmetic and whatever is a `float` is fp32.
/// Matrices are row-major, `ld` is the distance of two rows; rows x columns x others as named. Arguments marked `or
/// null` may be. Outputs do not overlap inputs unless said.
template <class S>
struct ActivationKernels {
  /// y = (x - mean) * rstd * gain + bias, row by row of `width`. kept: x as S; mean, rstd [rows]; or null, all three.
  void (*norm)(std::int64_t rows, std::int64_t width, const float* x, const float* gain, const float* bias, float eps,
               S* y, S* kept, float* mean, float* rstd);
  /// y again, from what norm() kept.
  void (*norm_again)(std::int64_t rows, std::int64_t width, const S* kept, const float* mean, const float* rstd,
                     const float* gain, const float* bias, S* y);
  /// d += the gradient of x, given dy of y.
  void (*norm_gradient)(std::int64_t rows, std::int64_t width, const float* dy, const S* kept, const float* mean,
                        const float* rstd, const float* gain, float* d);
  /// y = (c + bias) * scale; bias and scale [columns] or null.
  void (*store)(std::int64_t rows, std::int64_t columns, const float* c, std::int64_t ldc, const float* bias,
                const float* scale, S* y, std::int64_t ldy);
  /// x += (c + bias) * scale; scale or null.
  void (*add)(std::int64_t rows, std::int64_t columns, const float* c, std::int64_t ldc, const float* bias,
              const float* scale, float* x, std::int64_t ldx);
  /// y = gelu(c + bias), the exact one, by Phi; pre: c + bias, or null; slope: gelu'(c + bias), or null.
  void (*gelu)(std::int64_t rows, std::int64_t columns, const float* c, std::int64_t ldc, const float* bias, S* pre,
               Slope<S>* slope, S* y, std::int64_t ldy);
  /// y = gelu(pre), slope = gelu'(pre).
  void (*gelu_again)(std::int64_t rows, std::int64_t columns, const S* pre, Slope<S>* slope, S* y, std::int64_t ldy);
  /// y = c * slope.
  void (*gelu_gradient)(std::int64_t rows, std::int64_t columns, const float* c, std::int64_t ldc,
                        const Slope<S>* slope, S* y, std::int64_t ldy);
  /// y = sum_i factor_i c_i, the n matrices c_i `step` apart, factor_i [columns] one of n lines `ldf` apart.
  void (*combine)(std::int64_t rows, std::int64_t columns, std::int64_t n, const float* c, std::int64_t step,
                  std::int64_t ldc, const float* factor, std::int64_t ldf, float* y, std::int64_t ldy);
  /// sum over all elements of c * x.
  double (*dot)(std::int64_t rows, std::int64_t columns, const float* c, std::int64_t ldc, const S* x,
                std::int64_t ldx);

  /// p = softmax(scale * s) over the first `keys` of `width` columns, 0 in the others; sums: log sum_j exp(scale s_j)
  /// [rows], or null. s is written.
  void (*softmax)(std::int64_t rows, std::int64_t keys, std::int64_t width, float scale, float* s, S* p, float* sums);
  /// Shares from transposed scores st [keys, queries]: pt = exp(scale * st - sums), sums [queries].
  void (*shares)(std::int64_t keys, std::int64_t queries, std::int64_t ld, float scale, const float* st,
                 const float* sums, float* pt_exact, S* pt);
  /// dst = pt * (dpt - D) * scale, D the sums of pt * dpt over the keys: transposed [keys, queries], ld between rows.
  /// dst: rows of S; pairs: the same packed by pack_straight(), `padded` rows. work [queries].
  void (*shares_gradient)(std::int64_t keys, std::int64_t padded, std::int64_t queries, std::int64_t ld, float scale,
                          const float* pt, const float* dpt, float* work, S* dst, S* pairs);

  /// The right side of a product, b [K, N] packed: fp32 row by row; bf16 in pairs of k, [K / 2][N][2], K even. ld: the
  /// columns of the result, those beyond N and rows beyond `given` up to K are 0.
  void (*pack_straight)(std::int64_t given, std::int64_t K, std::int64_t N, const S* b, std::int64_t ldb, S* out,
                        std::int64_t ld);
  /// The same of b^T, given b [N, K].
  void (*pack_transposed)(std::int64_t K, std::int64_t N, const S* b, std::int64_t ldb, S* out, std::int64_t ld);
  /// Of a weight in fp32; N at most 64, K even for bf16.
  void (*pack_weight)(std::int64_t K, std::int64_t N, const float* b, std::int64_t ldb, bool transposed, S* out,
                      std::int64_t ld);
  /// y [columns, padded] = x [rows, columns] transposed, 0 beyond `rows`.
  void (*transpose)(std::int64_t rows, std::int64_t padded, std::int64_t columns, const S* x, std::int64_t ldx, S* y,
                    std::int64_t ldy);
  /// y [columns, rows] = x [rows, columns] transposed, from fp32.
  void (*store_transposed)(std::int64_t rows, std::int64_t columns, const float* x, std::int64_t ldx, S* y,
                           std::int64_t ldy);
};

enum class Isa { kPlain, kAvx2, kAvx512 };

/// Of one instruction set, which the processor must have.
template <class S>
const ActivationKernels<S>& activation_kernels(Isa isa);

}  // namespace recast::kernels
