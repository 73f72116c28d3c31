#include "row_kernels.h"

namespace recast {
namespace {

namespace plain {
constexpr int kBytes = 16;
#include "row_kernels.inc"
bool usable() { return true; }
}  // namespace plain

#if defined(__x86_64__)
#pragma GCC push_options
#pragma GCC target("avx2,fma")
namespace avx2 {
constexpr int kBytes = 32;
#include "row_kernels.inc"
}  // namespace avx2
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx512f")
namespace avx512 {
constexpr int kBytes = 64;
#include "row_kernels.inc"
}  // namespace avx512
#pragma GCC pop_options

bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool has_avx512() { return __builtin_cpu_supports("avx512f"); }
#endif

constexpr RowKernels kKernels[] = {
#if defined(__x86_64__)
    {"avx512", has_avx512, avx512::gram, avx512::combine, avx512::compare},
    {"avx2", has_avx2, avx2::gram, avx2::combine, avx2::compare},
#endif
    {"plain", plain::usable, plain::gram, plain::combine, plain::compare}};

}  // namespace

std::span<const RowKernels> row_kernels() { return kKernels; }

const RowKernels& best_row_kernels() {
  const RowKernels* kernels = kKernels;
  while (!kernels->usable()) ++kernels;
  return *kernels;
}

}  // namespace recast
