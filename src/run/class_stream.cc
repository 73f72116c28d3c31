#include "recast/run/class_stream.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "recast/base/error.h"
#include "recast/base/key.h"

namespace recast {
namespace {

constexpr std::int64_t kMostSteps = 10'000;

/// Whether the steps fit the data, too.
void check_steps(const StreamOptions& options, std::int64_t classes) {
  check(options);
  const std::int64_t base = options.base > 0 ? options.base : options.increment;
  if (base > classes)
    fail(Code::kInvalidArgument, "[stream] the first step is of {} classes, the data has {}: take a smaller --base",
         base, classes);
  if ((classes - base + options.increment - 1) / options.increment >= kMostSteps)
    fail(Code::kInvalidArgument, "[stream] more than {} steps: take a larger --increment", kMostSteps);
}

/// Rows of one class, and the step in which it is new.
struct ClassRows {
  std::vector<std::int64_t> rows;
  std::size_t step;
};

/// The rows in random order, cut into so many pieces: the cuts are drawn alike over all places.
std::vector<std::vector<std::int64_t>> cut(const std::vector<std::int64_t>& rows, std::size_t pieces, const Key& key) {
  const std::vector<std::int64_t> order = key.fold("order").permutation(static_cast<std::int64_t>(rows.size()));
  std::vector<std::size_t> cuts;
  for (std::size_t i = 1; i < pieces; ++i) cuts.push_back(1 + key.fold("cut", i).below(rows.size()));
  cuts.push_back(rows.size());
  std::sort(cuts.begin(), cuts.end());
  std::vector<std::vector<std::int64_t>> out(pieces);
  std::size_t at = 0;
  for (std::size_t piece = 0; piece < pieces; ++piece)
    for (; at < cuts[piece]; ++at) out[piece].push_back(rows[static_cast<std::size_t>(order[at])]);
  return out;
}

void deal_mixed(const std::vector<ClassRows>& classes, double share, const Key& key, std::vector<StreamStep>& steps) {
  const auto count = static_cast<std::int64_t>(classes.size());
  std::vector<std::int64_t> chosen = key.fold("recurring").permutation(count);
  chosen.resize(static_cast<std::size_t>(std::llround(share * static_cast<double>(count))));
  for (std::size_t c = 0; c < classes.size(); ++c) {
    const ClassRows& own = classes[c];
    const bool recurs = std::find(chosen.begin(), chosen.end(), static_cast<std::int64_t>(c)) != chosen.end();
    const auto pieces = cut(own.rows, recurs ? steps.size() - own.step : 1, key.fold("cut", c));
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      auto& rows = steps[own.step + i].rows;
      rows.insert(rows.end(), pieces[i].begin(), pieces[i].end());
    }
  }
}

void deal_recurring(const std::vector<ClassRows>& classes, double share, const Key& key,
                    std::vector<StreamStep>& steps) {
  for (std::size_t c = 0; c < classes.size(); ++c) {
    const ClassRows& own = classes[c];
    for (std::size_t step = own.step; step < steps.size(); ++step) {
      auto& rows = steps[step].rows;
      const Key draw = key.fold("class", c).fold("step", step);
      if (step == own.step) {
        rows.insert(rows.end(), own.rows.begin(), own.rows.end());
        continue;
      }
      if (draw.fold("comes").uniform() >= share) continue;
      const std::size_t size = 1 + draw.fold("size").below(own.rows.size());
      const auto order = draw.fold("rows").permutation(static_cast<std::int64_t>(own.rows.size()));
      for (std::size_t i = 0; i < size; ++i) rows.push_back(own.rows[static_cast<std::size_t>(order[i])]);
    }
  }
}

}  // namespace

std::string_view name(StreamKind kind) {
  switch (kind) {
    case StreamKind::kDisjoint:
      return "disjoint";
    case StreamKind::kMixed:
      return "mixed";
    case StreamKind::kRecurring:
      return "recurring";
  }
  return "";
}

void check(const StreamOptions& options) {
  if (options.increment < 1 || options.base < 0)
    fail(Code::kInvalidArgument, "[stream] --increment must be at least 1 and --base 0 or more, got {} and {}",
         options.increment, options.base);
  if (options.class_seed < 0 || options.class_seed > 0xffffffff)
    fail(Code::kInvalidArgument, "[stream] --class-seed must lie in 0..4294967295, got {}", options.class_seed);
  if (!(options.share >= 0 && options.share <= 1))
    fail(Code::kInvalidArgument, "[stream] --share must lie in 0..1, got {}", options.share);
}

StreamKind parse_stream_kind(std::string_view text) {
  for (const StreamKind kind : {StreamKind::kDisjoint, StreamKind::kMixed, StreamKind::kRecurring})
    if (text == name(kind)) return kind;
  fail(Code::kInvalidArgument, "[stream] a stream is disjoint, mixed or recurring, got '{}'", text);
}

std::vector<std::int64_t> numpy_permutation(std::uint32_t seed, std::int64_t n) {
  std::mt19937 generator(seed);  // the standard fixes its bits
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  for (std::uint32_t i = static_cast<std::uint32_t>(std::max<std::int64_t>(n, 1)) - 1; i > 0; --i) {
    // NumPy draws below or at i by masking and trying again.
    std::uint32_t mask = i;
    for (int shift = 1; shift < 32; shift *= 2) mask |= mask >> shift;
    std::uint32_t j = generator() & mask;
    while (j > i) j = generator() & mask;
    std::swap(order[i], order[j]);
  }
  return order;
}

ClassStream make_stream(const std::vector<std::int64_t>& labels, std::int64_t classes, const StreamOptions& options) {
  check_steps(options, classes);
  ClassStream stream;
  stream.order = numpy_permutation(static_cast<std::uint32_t>(options.class_seed), classes);
  stream.column.resize(stream.order.size());
  for (std::size_t c = 0; c < stream.order.size(); ++c)
    stream.column[static_cast<std::size_t>(stream.order[c])] = static_cast<std::int64_t>(c);
  for (std::int64_t first = 0; first < classes;) {
    const std::int64_t wanted = first == 0 && options.base > 0 ? options.base : options.increment;
    stream.steps.push_back({first, std::min(wanted, classes - first), {}});
    first += stream.steps.back().classes;
  }

  std::vector<ClassRows> by_column(stream.order.size());
  for (std::size_t step = 0; step < stream.steps.size(); ++step)
    for (std::int64_t c = 0; c < stream.steps[step].classes; ++c)
      by_column[static_cast<std::size_t>(stream.steps[step].first + c)].step = step;
  for (std::size_t row = 0; row < labels.size(); ++row)
    by_column.at(static_cast<std::size_t>(stream.column.at(static_cast<std::size_t>(labels[row]))))
        .rows.push_back(static_cast<std::int64_t>(row));
  for (std::size_t c = 0; c < by_column.size(); ++c)
    if (by_column[c].rows.empty())
      fail(Code::kInvalidArgument, "[stream] class {} has no training row", stream.order[c]);

  const Key key = Key(static_cast<std::uint64_t>(options.class_seed)).fold("stream");
  if (options.kind == StreamKind::kRecurring)
    deal_recurring(by_column, options.share, key, stream.steps);
  else
    deal_mixed(by_column, options.kind == StreamKind::kMixed ? options.share : 0, key, stream.steps);
  for (StreamStep& step : stream.steps) std::sort(step.rows.begin(), step.rows.end());
  return stream;
}

}  // namespace recast
