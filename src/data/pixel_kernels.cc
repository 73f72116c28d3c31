#include "pixel_kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace recast {
namespace {

namespace plain {
constexpr int kBytes = 16;
typedef std::int32_t Ints __attribute__((vector_size(kBytes)));
typedef std::uint8_t Bytes __attribute__((vector_size(kBytes / 4)));

inline Ints load_ints(const std::uint8_t* from) {
  Bytes x;
  __builtin_memcpy(&x, from, sizeof x);
  return __builtin_convertvector(x, Ints);
}
inline void store(std::uint8_t* to, Ints x) {
  const Bytes bytes = __builtin_convertvector(x, Bytes);
  __builtin_memcpy(to, &bytes, sizeof bytes);
}
#include "pixel_kernels.inc"
bool usable() { return true; }
}  // namespace plain

#if defined(__x86_64__)
#pragma GCC push_options
#pragma GCC target("avx2")
namespace avx2 {
constexpr int kBytes = 32;
typedef std::int32_t Ints __attribute__((vector_size(kBytes)));

inline Ints load_ints(const std::uint8_t* from) {
  return reinterpret_cast<Ints>(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
}
inline void store(std::uint8_t* to, Ints x) {
  const auto all = reinterpret_cast<__m256i>(x);
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_packus_epi16(words, words));
}
#include "pixel_kernels.inc"
}  // namespace avx2
#pragma GCC pop_options

bool has_avx2() { return __builtin_cpu_supports("avx2"); }
#endif

constexpr PixelKernels kKernels[] = {
#if defined(__x86_64__)
    {"avx2", has_avx2, avx2::across, avx2::down, avx2::blend, avx2::saturate, avx2::sum_grey, avx2::turn_hue},
#endif
    {"plain", plain::usable, plain::across, plain::down, plain::blend, plain::saturate, plain::sum_grey,
     plain::turn_hue}};

}  // namespace

std::span<const PixelKernels> pixel_kernels() { return kKernels; }

const PixelKernels& best_pixel_kernels() {
  const PixelKernels* kernels = kKernels;
  while (!kernels->usable()) ++kernels;
  return *kernels;
}

}  // namespace recast
