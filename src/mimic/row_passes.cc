#include "row_passes.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "recast/base/error.h"

namespace recast {
namespace {

/// Columns that a thread takes at a time. Fixed, so that sums do not depend on the number of threads.
constexpr std::int64_t kChunk = 1 << 14;

std::int64_t chunks(std::int64_t columns) { return (columns + kChunk - 1) / kChunk; }

template <class Visit>
void for_chunks(std::int64_t columns, const Visit& visit) {
  at::parallel_for(0, chunks(columns), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t chunk = begin; chunk < end; ++chunk)
      visit(chunk, Columns{chunk * kChunk, std::min((chunk + 1) * kChunk, columns)});
  });
}

std::vector<const float*> pointers(const std::vector<at::Tensor>& rows) {
  std::vector<const float*> out;
  for (const at::Tensor& row : rows) {
    RECAST_ASSERT(row.is_contiguous() && row.numel() == rows[0].numel());
    out.push_back(row.const_data_ptr<float>());
  }
  return out;
}

}  // namespace

at::Tensor gram(const std::vector<at::Tensor>& rows) {
  const auto L = static_cast<std::int64_t>(rows.size()), P = rows.at(0).numel();
  const std::vector<const float*> from = pointers(rows);
  const at::Tensor sums = at::zeros({chunks(P), L, L}, at::kDouble);
  double* to = sums.mutable_data_ptr<double>();
  const RowKernels& kernels = best_row_kernels();
  for_chunks(P,
             [&](std::int64_t chunk, Columns columns) { kernels.gram(from.data(), L, columns, to + chunk * L * L); });
  return sums.sum(0);
}

void combine(const std::vector<at::Tensor>& rows, const at::Tensor& u, at::Tensor& out) {
  const auto L = static_cast<std::int64_t>(rows.size()), P = rows.at(0).numel(), n = u.size(1);
  RECAST_ASSERT(u.is_contiguous() && u.size(0) == L && out.is_contiguous() && out.numel() == n * P);
  const std::vector<const float*> from = pointers(rows);
  const double* factors = u.const_data_ptr<double>();
  std::vector<float*> to;
  for (std::int64_t i = 0; i < n; ++i) to.push_back(out.mutable_data_ptr<float>() + i * P);
  const RowKernels& kernels = best_row_kernels();
  for_chunks(P,
             [&](std::int64_t, Columns columns) { kernels.combine(from.data(), L, columns, factors, n, to.data()); });
}

void copy(const std::vector<at::Tensor>& rows, at::Tensor& out) {
  const std::int64_t P = rows.at(0).numel();
  RECAST_ASSERT(out.is_contiguous() && out.numel() == static_cast<std::int64_t>(rows.size()) * P);
  const std::vector<const float*> from = pointers(rows);
  float* to = out.mutable_data_ptr<float>();
  for_chunks(out.numel(), [&](std::int64_t, Columns columns) {
    for (std::int64_t at = columns.begin; at < columns.end;) {
      const std::int64_t row = at / P, last = std::min((row + 1) * P, columns.end);
      std::copy(from[static_cast<std::size_t>(row)] + at % P, from[static_cast<std::size_t>(row)] + at % P + last - at,
                to + at);
      at = last;
    }
  });
}

RowSums compare(const at::Tensor& a, const at::Tensor& b) {
  RECAST_ASSERT(a.numel() == b.numel());
  const at::Tensor x = a.contiguous(), y = b.contiguous();
  const float *from = x.const_data_ptr<float>(), *other = y.const_data_ptr<float>();
  std::vector<RowSums> parts(static_cast<std::size_t>(chunks(a.numel())));
  const RowKernels& kernels = best_row_kernels();
  for_chunks(a.numel(), [&](std::int64_t chunk, Columns columns) {
    kernels.compare(from, other, columns, parts[static_cast<std::size_t>(chunk)]);
  });
  RowSums sums;
  for (const RowSums& part : parts) {
    sums.aa += part.aa;
    sums.bb += part.bb;
    sums.ab += part.ab;
    sums.difference += part.difference;
  }
  return sums;
}

}  // namespace recast
