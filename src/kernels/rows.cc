#include "rows.h"

namespace recast::kernels {

#define RECAST_DECLARE(isa)                         \
  namespace isa {                                   \
  extern const ActivationKernels<float> kFloatRows; \
  extern const ActivationKernels<bf16> kBf16Rows;   \
  }
RECAST_DECLARE(plain)
#ifdef RECAST_X86
RECAST_DECLARE(avx2)
RECAST_DECLARE(avx512)
#endif
#undef RECAST_DECLARE

template <>
const ActivationKernels<float>& activation_kernels<float>(Isa isa) {
#ifdef RECAST_X86
  if (isa == Isa::kAvx512) return avx512::kFloatRows;
  if (isa == Isa::kAvx2) return avx2::kFloatRows;
#endif
  return plain::kFloatRows;
}

template <>
const ActivationKernels<bf16>& activation_kernels<bf16>(Isa isa) {
#ifdef RECAST_X86
  if (isa == Isa::kAvx512) return avx512::kBf16Rows;
  if (isa == Isa::kAvx2) return avx2::kBf16Rows;
#endif
  return plain::kBf16Rows;
}

}  // namespace recast::kernels
