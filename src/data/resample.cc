#include "resample.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "pixel_kernels.h"

namespace recast {
namespace {

double bilinear(double x) { return std::max(0.0, 1 - std::abs(x)); }

double bicubic(double x) {  // Keys 1981, eq. 8, a = -0.5
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

// What one output pixel is made of: the input pixels from `begin` on, by weight.
struct Taps {
  std::int64_t begin;
  std::vector<std::int32_t> weights;
};

std::vector<Taps> taps_of(const Axis& axis, Filter filter) {
  const double scale = static_cast<double>(axis.from) / static_cast<double>(axis.to);
  const double stretch = std::max(scale, 1.0);  // antialias: shrinking widens the filter
  const double support = (filter == Filter::kBicubic ? 2.0 : 1.0) * stretch;
  std::vector<Taps> out;
  for (std::int64_t i = axis.begin; i < axis.begin + axis.count; ++i) {
    const double centre = (static_cast<double>(i) + 0.5) * scale;
    const auto begin = std::max<std::int64_t>(0, static_cast<std::int64_t>(centre - support + 0.5));
    const auto end = std::min(axis.from, static_cast<std::int64_t>(centre + support + 0.5));
    std::vector<double> weights;
    double sum = 0;
    for (auto x = begin; x < end; ++x) {
      const double at = (static_cast<double>(x) - centre + 0.5) * (1 / stretch);
      weights.push_back(filter == Filter::kBicubic ? bicubic(at) : bilinear(at));
      sum += weights.back();
    }
    Taps taps{begin, {}};
    for (const double w : weights) {
      const double share = sum != 0 ? w / sum : w;
      taps.weights.push_back(static_cast<std::int32_t>((share < 0 ? -0.5 : 0.5) + share * (1 << kTapBits)));
    }
    out.push_back(std::move(taps));
  }
  return out;
}

struct Span {
  std::int64_t begin, end;
};

// The input pixels that any of these are made of.
Span reach(const std::vector<Taps>& taps) {
  const auto& last = taps.back();
  return {taps.front().begin, last.begin + static_cast<std::int64_t>(last.weights.size())};
}

TapTable table_of(const std::vector<Taps>& taps) {
  constexpr std::int64_t kWidest = 16;  // lanes of a vector
  TapTable table;
  table.count = static_cast<std::int64_t>(taps.size());
  table.stride = (table.count + kWidest - 1) / kWidest * kWidest;
  for (const Taps& t : taps) table.taps = std::max(table.taps, static_cast<std::int64_t>(t.weights.size()));
  table.taps = (table.taps + 3) / 4 * 4;
  table.begin.assign(static_cast<std::size_t>(table.stride), 0);
  table.weights.assign(static_cast<std::size_t>(table.stride * table.taps), 0);
  for (std::int64_t x = 0; x < table.count; ++x) {
    const Taps& t = taps[static_cast<std::size_t>(x)];
    table.begin[static_cast<std::size_t>(x)] = static_cast<std::int32_t>(t.begin);
    for (std::size_t i = 0; i < t.weights.size(); ++i)
      table.weights[i * static_cast<std::size_t>(table.stride) + static_cast<std::size_t>(x)] = t.weights[i];
  }
  return table;
}

// Across. Row y of `to` [rows, taps.size()] is made of row y of `from` [rows, width]; nothing behind `end` is read.
void resample_across(const std::uint8_t* from, const std::uint8_t* end, std::int64_t width, std::int64_t rows,
                     const TapTable& table, std::uint8_t* to) {
  const PixelKernels& kernels = best_pixel_kernels();
  const std::int64_t reach = *std::max_element(table.begin.begin(), table.begin.end()) + table.taps;
  std::vector<std::uint8_t> last;
  for (std::int64_t y = 0; y < rows; ++y, from += width, to += table.count) {
    const bool inside = end - from >= reach;
    if (!inside) {
      last.assign(static_cast<std::size_t>(std::max(reach, width)), 0);
      std::copy(from, from + width, last.begin());
    }
    kernels.across(inside ? from : last.data(), table, to);
  }
}

// Down. `from` [any, width], `to` [taps.size(), width]; `first` is the input row that `from` begins with.
void resample_down(const std::uint8_t* from, std::int64_t first, std::int64_t width, const std::vector<Taps>& taps,
                   std::uint8_t* to) {
  const PixelKernels& kernels = best_pixel_kernels();
  for (const auto& t : taps) {
    kernels.down(from + (t.begin - first) * width, width, t.weights.data(), static_cast<std::int64_t>(t.weights.size()),
                 to);
    to += width;
  }
}

// Pillow 13 goes down first where the height shrinks by more than twice as many pixels as the width; older ones never.
// The order shows, since bytes are rounded in between.
bool goes_down_first(const Axis& down, const Axis& across) {
  return down.to < down.from && across.to != across.from && down.from - down.to > 2 * (across.from - across.to);
}

}  // namespace

at::Tensor resample(const at::Tensor& image, const Axis& down, const Axis& across, Filter filter) {
  const auto rows = taps_of(down, filter), columns = taps_of(across, filter);
  const TapTable table = table_of(columns);
  const bool down_first = goes_down_first(down, across);
  const Span used = reach(rows);
  std::vector<std::uint8_t> between(
      static_cast<std::size_t>(down_first ? down.count * across.from : (used.end - used.begin) * across.count));
  at::Tensor out = at::empty({3, down.count, across.count}, at::kByte);
  const std::uint8_t* end = image.data_ptr<std::uint8_t>() + image.numel();
  for (int plane = 0; plane < 3; ++plane) {
    const auto* from = image.data_ptr<std::uint8_t>() + plane * down.from * across.from;
    auto* to = out.data_ptr<std::uint8_t>() + plane * down.count * across.count;
    if (down_first) {
      resample_down(from, 0, across.from, rows, between.data());
      resample_across(between.data(), between.data() + between.size(), across.from, down.count, table, to);
    } else {
      resample_across(from + used.begin * across.from, end, across.from, used.end - used.begin, table, between.data());
      resample_down(between.data(), used.begin, across.count, rows, to);
    }
  }
  return out;
}

}  // namespace recast
