#pragma once
// What the closed form does with the weights of a group, at memory speed: one pass each. The L rows need not lie one
// behind the other. Everything is summed in double, where a product of two fp32 numbers is exact.
#include <cstdint>
#include <span>

namespace recast {

struct Columns {
  std::int64_t begin, end;
};

/// Squares and products of two rows, and the square of their difference.
struct RowSums {
  double aa = 0, bb = 0, ab = 0, difference = 0;
};

/// One instruction set's version of all of them. Results of two sets differ by the order of sums in double.
/// Threads: all calls in parallel.
struct RowKernels {
  const char* isa;
  bool (*usable)();
  /// sums[i * L + j] += sum_p rows[i][p] rows[j][p] for j <= i over the columns p.
  void (*gram)(const float* const* rows, std::int64_t L, Columns columns, double* sums);
  /// out[i][p] = sum_l u[l * n + i] rows[l][p] for i < n, rounded once.
  void (*combine)(const float* const* rows, std::int64_t L, Columns columns, const double* u, std::int64_t n,
                  float* const* out);
  void (*compare)(const float* a, const float* b, Columns columns, RowSums& sums);
};

/// Best first; the last one runs everywhere.
std::span<const RowKernels> row_kernels();
/// The first that this processor has.
const RowKernels& best_row_kernels();

}  // namespace recast
