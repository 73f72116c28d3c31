#pragma once
// Passes over weights on all threads, in double. Sums are the same for any number of threads.
#include <ATen/core/Tensor.h>

#include <vector>

#include "row_kernels.h"

namespace recast {

/// W W^T, L x L, in double; the triangle above the diagonal is 0. `rows`: fp32, of equal size, contiguous, on the CPU.
at::Tensor gram(const std::vector<at::Tensor>& rows);
/// out[i] = sum_l u[l, i] rows[l], each number rounded once. u [L, n] in double; out [n, ...] fp32, contiguous,
/// written.
void combine(const std::vector<at::Tensor>& rows, const at::Tensor& u, at::Tensor& out);
/// Rows one behind the other in `out`, fp32, contiguous, of as many numbers.
void copy(const std::vector<at::Tensor>& rows, at::Tensor& out);
/// Of two fp32 tensors of equal size.
RowSums compare(const at::Tensor& a, const at::Tensor& b);

}  // namespace recast
