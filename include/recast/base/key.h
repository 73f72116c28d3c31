#pragma once
#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace recast {

/// Randomness as a function of (seed, names, numbers): the same key gives the same draws in any order, on any thread,
/// on any machine. A key is a value; draws do not change it, so two draws that shall differ fold different names.
///
///     key.fold("noise", step).normal({4, 8})
///
/// Generator: Philox 4x32-10 (Salmon et al., SC 2011), counter = position of the draw, 64-bit key = this key.
/// Threads: all calls in parallel.
class Key {
 public:
  explicit Key(std::uint64_t seed) : bits_(seed) {}
  /// A new key for `name` and `n`, independent of this one for all practical purposes (Philox as a hash).
  Key fold(std::string_view name, std::uint64_t n = 0) const;

  /// One number in [0, 1), 53 bits.
  double uniform() const;
  /// One integer in [0, bound), without modulo bias. bound > 0.
  std::uint64_t below(std::uint64_t bound) const;
  /// fp32, CPU, independent draws from [0, 1), 24 bits.
  at::Tensor uniform(at::IntArrayRef shape) const;
  /// fp32, CPU, N(0, 1) by Box-Muller in double.
  at::Tensor normal(at::IntArrayRef shape) const;
  /// 0 .. n-1 in random order (Fisher-Yates).
  std::vector<std::int64_t> permutation(std::int64_t n) const;

  std::uint64_t bits() const { return bits_; }
  /// Four 32-bit words at a counter: the primitive that all draws are made of.
  std::array<std::uint32_t, 4> block(std::uint64_t counter) const;

 private:
  std::uint64_t bits_;
};

}  // namespace recast
