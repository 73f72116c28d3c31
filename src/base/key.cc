#include "recast/base/key.h"

#include <ATen/ops/empty.h>

#include <cmath>
#include <numbers>
#include <numeric>

namespace recast {
namespace {

using Words = std::array<std::uint32_t, 4>;

Words philox(Words c, std::uint32_t k0, std::uint32_t k1) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = 0xD2511F53ull * c[0];
    const std::uint64_t p1 = 0xCD9E8D57ull * c[2];
    c = {static_cast<std::uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<std::uint32_t>(p1),
         static_cast<std::uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<std::uint32_t>(p0)};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

std::uint64_t first_64(const Words& w) { return (std::uint64_t{w[1]} << 32) | w[0]; }

double to_unit(std::uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1.0p-53; }

}  // namespace

Words Key::block(std::uint64_t counter) const {
  return philox({static_cast<std::uint32_t>(counter), static_cast<std::uint32_t>(counter >> 32), 0, 0},
                static_cast<std::uint32_t>(bits_), static_cast<std::uint32_t>(bits_ >> 32));
}

Key Key::fold(std::string_view name, std::uint64_t n) const {
  // Eight bytes of the name at a time, its length and n each pass once through the generator, with a tag in the
  // counter's upper half that no draw uses.
  auto mix = [](std::uint64_t key, std::uint64_t word, std::uint32_t tag) {
    return first_64(philox({static_cast<std::uint32_t>(word), static_cast<std::uint32_t>(word >> 32), tag, 1},
                           static_cast<std::uint32_t>(key), static_cast<std::uint32_t>(key >> 32)));
  };
  std::uint64_t key = mix(bits_, name.size(), 1);
  for (std::size_t at = 0; at < name.size(); at += 8) {
    std::uint64_t word = 0;
    for (std::size_t i = at; i < std::min(at + 8, name.size()); ++i)
      word |= std::uint64_t{static_cast<unsigned char>(name[i])} << (8 * (i - at));
    key = mix(key, word, 2);
  }
  return Key(mix(key, n, 3));
}

double Key::uniform() const { return to_unit(first_64(block(0))); }

std::uint64_t Key::below(std::uint64_t bound) const {
  const std::uint64_t limit = bound * (~std::uint64_t{0} / bound);
  for (std::uint64_t counter = 0;; ++counter) {
    const std::uint64_t draw = first_64(block(counter));
    if (draw < limit) return draw % bound;
  }
}

at::Tensor Key::uniform(at::IntArrayRef shape) const {
  at::Tensor result = at::empty(shape, at::kFloat);
  float* out = result.data_ptr<float>();
  const std::int64_t count = result.numel();
  for (std::int64_t i = 0; i < count; i += 4) {
    const Words w = block(static_cast<std::uint64_t>(i / 4));
    for (std::int64_t j = 0; j < std::min<std::int64_t>(4, count - i); ++j)
      out[i + j] = static_cast<float>(w[j] >> 8) * 0x1.0p-24f;
  }
  return result;
}

at::Tensor Key::normal(at::IntArrayRef shape) const {
  at::Tensor result = at::empty(shape, at::kFloat);
  float* out = result.data_ptr<float>();
  const std::int64_t count = result.numel();
  for (std::int64_t i = 0; i < count; i += 2) {
    const Words w = block(static_cast<std::uint64_t>(i / 2));
    const double u = 1.0 - to_unit((std::uint64_t{w[1]} << 32) | w[0]);  // in (0, 1]: the logarithm is finite
    const double angle = 2.0 * std::numbers::pi * to_unit((std::uint64_t{w[3]} << 32) | w[2]);
    const double radius = std::sqrt(-2.0 * std::log(u));
    out[i] = static_cast<float>(radius * std::cos(angle));
    if (i + 1 < count) out[i + 1] = static_cast<float>(radius * std::sin(angle));
  }
  return result;
}

std::vector<std::int64_t> Key::permutation(std::int64_t n) const {
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  for (std::int64_t i = n - 1; i > 0; --i)
    std::swap(order[i], order[fold("swap", static_cast<std::uint64_t>(i)).below(static_cast<std::uint64_t>(i) + 1)]);
  return order;
}

}  // namespace recast
