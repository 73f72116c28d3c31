// Linear probe: a linear classifier on the features, nothing else.
// Idea     logits = features W^T + b.
// State    weight [C, D], bias [C], fp32: 4 C (D + 1) bytes. Stored in 8 or 4 bits: codes [C, D] int8 or [C, D/2], two
//          to a byte, a scale [C] fp32 and the bias: C (D + 8) or C (D/2 + 8) bytes; 10 classes of width 384: 2,000.
// Start    uniform in +-1/sqrt(D), as linear layers of PyTorch start, drawn per column so that columns added later do
//          not change the others.
#include <ATen/ATen.h>

#include <cmath>

#include "recast/method/registry.h"

namespace recast {
namespace {

/// Rows of whole multiples of a scale each: w[r, :] is about codes[r, :] * scale[r].
struct RoundedRows {
  at::Tensor codes, scale;  ///< int8 [C, D]; fp32 [C]

  at::Tensor weight() const { return codes.to(at::kFloat) * scale.unsqueeze(1); }
};

/// Codes within +-most. Each row has the scale of the least squared error among some that cut its largest values off;
/// the first of them cuts nothing.
RoundedRows round_rows(const at::Tensor& weight, std::int64_t most) {
  constexpr double kKept[] = {1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4};
  const at::Tensor largest = weight.abs().amax(1);
  RoundedRows best;
  at::Tensor least;
  for (const double kept : kKept) {
    const at::Tensor scale = largest * (kept / static_cast<double>(most));
    const at::Tensor codes =
        (weight / scale.clamp_min(std::numeric_limits<float>::min()).unsqueeze(1)).round().clamp(-most, most);
    const at::Tensor error = (codes * scale.unsqueeze(1) - weight).square().sum(1);
    if (!least.defined()) {
      least = error, best = {codes, scale};
      continue;
    }
    const at::Tensor better = error.lt(least);
    least = at::where(better, error, least);
    best = {at::where(better.unsqueeze(1), codes, best.codes), at::where(better, scale, best.scale)};
  }
  return {best.codes.to(at::kChar), best.scale};
}

/// Two codes of -7..7 to a byte, the first in the lower half, 8 added; 0 fills the last half of an odd width.
at::Tensor packed(const at::Tensor& codes) {
  at::Tensor nibbles = (codes + 8).to(at::kByte);
  if (nibbles.size(1) % 2 == 1) nibbles = at::constant_pad_nd(nibbles, {0, 1});
  const at::Tensor pairs = nibbles.view({nibbles.size(0), -1, 2});
  return pairs.select(2, 0).bitwise_or(pairs.select(2, 1).bitwise_left_shift(4));
}
at::Tensor unpacked(const at::Tensor& bytes) {
  const at::Tensor low = bytes.bitwise_and(15), high = bytes.bitwise_right_shift(4);
  const at::Tensor nibbles = at::stack({low, high}, 2).flatten(1);
  const bool odd = nibbles.numel() > 0 && nibbles[0][-1].item<std::int64_t>() == 0;
  return nibbles.slice(1, 0, nibbles.size(1) - (odd ? 1 : 0)).to(at::kChar) - 8;
}

struct LinearProbeOptions {
  std::string bits = "32";
};

class LinearProbe final : public Method, public Head {
 public:
  explicit LinearProbe(const LinearProbeOptions& options) : bits_(std::stoll(options.bits)) {}

  Fields forward(const Fields& in, const Fields*, const View& numbers, Pass&) const override {
    const auto stored = numbers.has("weight") ? std::nullopt : rounded(numbers.state(Scope::kTask));
    const at::Tensor weight = stored ? numbers.with_rules("weight", stored->weight()) : numbers.global("weight");
    return {{"logits", at::linear(in.at("features"), weight, numbers.global("bias"))}};
  }

  void grow(std::span<const std::int64_t> columns, Context& context) const override {
    const std::int64_t width = context.feature_width();
    const double bound = 1.0 / std::sqrt(static_cast<double>(width));
    std::vector<at::Tensor> rows, biases;
    for (const std::int64_t column : columns) {
      const Key key = context.key().fold("column", static_cast<std::uint64_t>(column));
      rows.push_back((key.fold("weight").uniform({1, width}) * 2 - 1) * bound);
      biases.push_back((key.fold("bias").uniform({1}) * 2 - 1) * bound);
    }
    State& own = context.own(Scope::kTask);
    if (!own.has("weight")) {
      context.create("weight", at::cat(rows));
      context.create("bias", at::cat(biases));
      return;
    }
    rows.insert(rows.begin(), own.tensor("weight").detach());
    biases.insert(biases.begin(), own.tensor("bias").detach());
    own.set("weight", at::cat(rows));
    own.set("bias", at::cat(biases));
  }

  bool adopt(const at::Tensor& weight, const at::Tensor& bias, State& own) const override {
    own.set("weight", weight.clone());
    own.set("bias", bias.clone());
    return true;
  }

  std::optional<at::Tensor> class_rows(const State& own) const override {
    if (own.has("weight")) return own.tensor("weight");
    const auto stored = rounded(own);
    return stored ? std::optional(stored->weight()) : std::nullopt;
  }

  void end_task(Context& context) const override {
    State& own = context.own(Scope::kTask);
    // What another plug-in's rule makes does not train, and is not stored.
    if (!own.has("weight") || !own.tensor("weight").requires_grad()) return;
    const auto before = own.has(codes()) ? rounded(own) : std::nullopt;
    for (const char* family : {"weight8", "weight4", "scale"}) own.erase(family);
    if (bits_ == 32) return;
    const at::Tensor weight = own.tensor("weight").detach();
    RoundedRows rows = round_rows(weight, (1 << (bits_ - 1)) - 1);
    if (before) keep_untouched(*before, weight, rows);
    own.erase("weight");
    own.set(codes(), bits_ == 4 ? packed(rows.codes) : rows.codes);
    own.set("scale", rows.scale);
  }

  /// The rounded rows stay beside those that train: end_task() looks at which of them moved.
  void continue_task(Context& context) const override {
    State& own = context.own(Scope::kTask);
    const auto stored = rounded(own);
    if (!stored) return;
    own.erase("weight");
    context.create("weight", stored->weight());
  }

  std::optional<std::int64_t> learned_numbers(const State& task) const override {
    const auto rows = class_rows(task);
    return (rows ? rows->numel() : 0) + (task.has("bias") ? task.tensor("bias").numel() : 0);
  }

 private:
  std::string codes() const { return "weight" + std::to_string(bits_); }

  /// What end_task() stored, in whatever bits; nothing where it rounded nothing.
  static std::optional<RoundedRows> rounded(const State& own) {
    if (own.has("weight8")) return RoundedRows{own.tensor("weight8"), own.tensor("scale")};
    if (own.has("weight4")) return RoundedRows{unpacked(own.tensor("weight4")), own.tensor("scale")};
    return {};
  }

  /// Rows that are still what was stored keep their codes and scale, so that they keep their bits.
  static void keep_untouched(const RoundedRows& before, const at::Tensor& weight, RoundedRows& rows) {
    const std::int64_t known = before.scale.size(0);
    const at::Tensor same = before.weight().eq(weight.narrow(0, 0, known)).all(1);
    at::Tensor codes = rows.codes.narrow(0, 0, known), scale = rows.scale.narrow(0, 0, known);
    codes.copy_(at::where(same.unsqueeze(1), before.codes, codes));
    scale.copy_(at::where(same, before.scale, scale));
  }

  std::int64_t bits_;
};

const bool kRegistered =
    describe<LinearProbe, LinearProbeOptions>("linear-probe")
        .summary("linear classifier on frozen features; the head of every other plug-in")
        .paper("-")
        .families({{.name = "weight", .rows = Rows::kPerClass},
                   {.name = "bias", .rows = Rows::kPerClass, .decay_scale = 0},
                   {.name = "weight8", .trains = false, .rows = Rows::kPerClass, .dtype = at::kChar},
                   {.name = "weight4", .trains = false, .rows = Rows::kPerClass, .dtype = at::kByte},
                   {.name = "scale", .trains = false, .rows = Rows::kPerClass}})
        .claims({Claim::kIsolated, Claim::kNeutralStart, Claim::kDefaultHead})
        .option("bits", &LinearProbeOptions::bits, one_of({"32", "8", "4"}),
                "of a stored weight; rounded once learning is over, figures are those of what is stored")
        .add();

}  // namespace
}  // namespace recast
