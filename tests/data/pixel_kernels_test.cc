// Each instruction set beside its definition, byte by byte.
#include "../../src/data/pixel_kernels.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "recast/base/key.h"

namespace recast {
namespace {

std::vector<std::uint8_t> random_bytes(std::uint64_t seed, std::int64_t count) {
  const at::Tensor drawn = (Key(seed).uniform({count}) * 256).to(at::kByte);
  return {drawn.const_data_ptr<std::uint8_t>(), drawn.const_data_ptr<std::uint8_t>() + count};
}

std::uint8_t cut(float x) { return static_cast<std::uint8_t>(std::clamp(x, 0.0f, 255.0f)); }
std::uint8_t grey(float r, float g, float b) { return cut(0.2989f * r + 0.587f * g + 0.114f * b); }
std::uint8_t from_fixed_point(std::int64_t sum) {
  return static_cast<std::uint8_t>(std::clamp<std::int64_t>(sum >> kTapBits, 0, 255));
}

class PixelKernelsTest : public testing::TestWithParam<PixelKernels> {};

constexpr std::int64_t kSizes[] = {1, 3, 4, 7, 8, 9, 16, 31, 100};

TEST_P(PixelKernelsTest, AcrossSumsTheTapsOfEachPixel) {
  for (const std::int64_t count : kSizes)
    for (const std::int64_t taps : {4, 8, 12}) {
      TapTable table{count, (count + 15) / 16 * 16, taps, {}, {}};
      table.begin.assign(static_cast<std::size_t>(table.stride), 0);
      for (std::int64_t x = 0; x < count; ++x) table.begin[static_cast<std::size_t>(x)] = static_cast<int>(2 * x);
      const at::Tensor drawn = Key(3).normal({taps * table.stride}) * static_cast<double>(1 << (kTapBits - 3));
      for (std::int64_t i = 0; i < drawn.numel(); ++i) table.weights.push_back(drawn[i].item<int>());
      const auto from = random_bytes(5, 2 * count + taps);
      std::vector<std::uint8_t> got(static_cast<std::size_t>(count) + 1, 77);
      GetParam().across(from.data(), table, got.data());
      for (std::int64_t x = 0; x < count; ++x) {
        std::int64_t sum = 1 << (kTapBits - 1);
        for (std::int64_t t = 0; t < taps; ++t)
          sum += std::int64_t{from[static_cast<std::size_t>(2 * x + t)]} *
                 table.weights[static_cast<std::size_t>(t * table.stride + x)];
        EXPECT_EQ(got[static_cast<std::size_t>(x)], from_fixed_point(sum)) << count << ", " << taps << ": " << x;
      }
      EXPECT_EQ(got.back(), 77);
    }
}

TEST_P(PixelKernelsTest, DownSumsTheTapsOfEachPixel) {
  for (const std::int64_t width : kSizes)
    for (const std::int64_t taps : {1, 3, 9}) {
      const auto from = random_bytes(6, taps * width);
      const at::Tensor drawn = Key(4).normal({taps}) * static_cast<double>(1 << (kTapBits - 2));
      std::vector<std::int32_t> weights;
      for (std::int64_t t = 0; t < taps; ++t) weights.push_back(drawn[t].item<int>());
      std::vector<std::uint8_t> got(static_cast<std::size_t>(width) + 1, 77);
      GetParam().down(from.data(), width, weights.data(), taps, got.data());
      for (std::int64_t x = 0; x < width; ++x) {
        std::int64_t sum = 1 << (kTapBits - 1);
        for (std::int64_t t = 0; t < taps; ++t)
          sum += std::int64_t{from[static_cast<std::size_t>(t * width + x)]} * weights[static_cast<std::size_t>(t)];
        EXPECT_EQ(got[static_cast<std::size_t>(x)], from_fixed_point(sum)) << width << ", " << taps << ": " << x;
      }
      EXPECT_EQ(got.back(), 77);
    }
}

TEST_P(PixelKernelsTest, BlendAndSaturateCutTheSumToAByte) {
  for (const std::int64_t size : kSizes)
    for (const float own : {0.0f, 0.3f, 1.0f, 1.7f, -0.4f}) {
      const auto from = random_bytes(7, 3 * size);
      std::vector<std::uint8_t> blended(from.size() + 1, 77), saturated(from.size() + 1, 77);
      GetParam().blend(from.data(), 3 * size, own, 31.5f, blended.data());
      GetParam().saturate(from.data(), size, own, 1 - own, saturated.data());
      std::int64_t sum = 0;
      for (std::int64_t i = 0; i < size; ++i) {
        const auto at = [&](std::int64_t plane) { return static_cast<std::size_t>(plane * size + i); };
        const std::uint8_t level = grey(from[at(0)], from[at(1)], from[at(2)]);
        sum += level;
        const float part = (1 - own) * level;
        for (std::int64_t plane = 0; plane < 3; ++plane) {
          EXPECT_EQ(blended[at(plane)], cut(own * from[at(plane)] + 31.5f)) << size << ", " << own << ": " << i;
          EXPECT_EQ(saturated[at(plane)], cut(own * from[at(plane)] + part)) << size << ", " << own << ": " << i;
        }
      }
      EXPECT_EQ(GetParam().sum_grey(from.data(), size), sum);
      EXPECT_EQ(blended.back(), 77);
      EXPECT_EQ(saturated.back(), 77);
    }
}

struct Rgb {
  float r, g, b;
};

float modulo_one(float x) { return x - std::floor(x); }

/// torchvision's, of one pixel in 0..1.
Rgb shift_hue(Rgb in, float shift) {
  const float high = std::max({in.r, in.g, in.b}), low = std::min({in.r, in.g, in.b});
  if (high == low) return in;
  const float chroma = high - low, saturation = chroma / high;
  const float rc = (high - in.r) / chroma, gc = (high - in.g) / chroma, bc = (high - in.b) / chroma;
  const float sixths = high == in.r ? bc - gc : high == in.g ? 2 + rc - bc : 4 + gc - rc;
  const float h = modulo_one(modulo_one(sixths / 6 + 1) + shift) * 6;
  const float sector = std::floor(h), f = h - sector;
  const float p = std::clamp(high * (1 - saturation), 0.0f, 1.0f);
  const float q = std::clamp(high * (1 - saturation * f), 0.0f, 1.0f);
  const float t = std::clamp(high * (1 - saturation * (1 - f)), 0.0f, 1.0f);
  const Rgb turned[] = {{high, t, p}, {q, high, p}, {p, high, t}, {p, q, high}, {t, p, high}, {high, p, q}};
  return turned[static_cast<int>(sector) % 6];
}

TEST_P(PixelKernelsTest, HueTurnsAsOnePixelDoes) {
  std::vector<std::uint8_t> r, g, b;  // every corner and edge of the cube of colours, greys, and points inside
  for (int x = 0; x < 256; x += 15)
    for (int y = 0; y < 256; y += 17)
      for (int z = 0; z < 256; z += 51) r.push_back(x), g.push_back(y), b.push_back(z);
  r.push_back(90), g.push_back(90), b.push_back(91);
  const auto size = static_cast<std::int64_t>(r.size());
  std::vector<std::uint8_t> planes(r), got(3 * r.size());
  planes.insert(planes.end(), g.begin(), g.end());
  planes.insert(planes.end(), b.begin(), b.end());
  for (const float shift : {-0.5f, -0.21f, 0.0f, 0.17f, 0.5f}) {
    GetParam().turn_hue(planes.data(), size, shift, got.data());
    for (std::size_t i = 0; i < r.size(); ++i) {
      const Rgb turned = shift_hue({r[i] / 255.0f, g[i] / 255.0f, b[i] / 255.0f}, shift);
      EXPECT_EQ(got[i], cut(turned.r * 255.999f)) << i << " by " << shift;
      EXPECT_EQ(got[r.size() + i], cut(turned.g * 255.999f)) << i << " by " << shift;
      EXPECT_EQ(got[2 * r.size() + i], cut(turned.b * 255.999f)) << i << " by " << shift;
    }
  }
}

std::vector<PixelKernels> usable() {
  std::vector<PixelKernels> kernels;
  for (const PixelKernels& candidate : pixel_kernels())
    if (candidate.usable()) kernels.push_back(candidate);
  return kernels;
}
INSTANTIATE_TEST_SUITE_P(Isa, PixelKernelsTest, testing::ValuesIn(usable()),
                         [](const auto& info) { return std::string(info.param.isa); });

}  // namespace
}  // namespace recast
