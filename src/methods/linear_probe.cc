// Linear probe: a linear classifier on the features, nothing else.
// Idea     logits = features W^T + b.
// State    weight [C, D], bias [C], fp32: 4 C (D + 1) bytes.
// Start    uniform in +-1/sqrt(D), as linear layers of PyTorch start, drawn per column so that columns added later do
//          not change the others.
#include <ATen/ATen.h>

#include <cmath>

#include "recast/method/registry.h"

namespace recast {
namespace {

class LinearProbe final : public Method, public Head {
 public:
  explicit LinearProbe(NoOptions) {}

  Fields forward(const Fields& in, const Fields*, const View& numbers, Pass&) const override {
    return {{"logits", at::linear(in.at("features"), numbers.global("weight"), numbers.global("bias"))}};
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

  std::optional<at::Tensor> class_rows(const State& own) const override { return own.tensor("weight"); }
};

const bool kRegistered = describe<LinearProbe, NoOptions>("linear-probe")
                             .summary("linear classifier on frozen features; the head of every other plug-in")
                             .paper("-")
                             .families({{.name = "weight", .rows = Rows::kPerClass},
                                        {.name = "bias", .rows = Rows::kPerClass, .decay_scale = 0}})
                             .claims({Claim::kIsolated, Claim::kNeutralStart, Claim::kDefaultHead})
                             .add();

}  // namespace
}  // namespace recast
