// Cross-entropy of the softmax of the logits, in fp32.
// Idea     mean over rows of -sum_c t_c log softmax(z)_c; t is one-hot from "label" or the soft "target" [B, C].
// Rows     weighted by "weight" [B] where the batch has it: sum(w l) / sum(w); rows of weight 0 do not matter.
#include <ATen/ATen.h>

#include "recast/method/registry.h"

namespace recast {
namespace {

struct CrossEntropyOptions {
  double smoothing = 0;
};

class CrossEntropy final : public Method, public LossTerm {
 public:
  explicit CrossEntropy(CrossEntropyOptions options) : smoothing_(options.smoothing) {}

  bool primary() const override { return true; }

  at::Tensor loss(const Batch& batch, const Fields& out, Step&) const override {
    const at::Tensor logits = out.at("logits").to(at::kFloat);
    if (!batch.has("weight")) return row_losses(logits, batch, at::Tensor()).mean();
    // A row of weight 0 may hold anything, NaN too: it must reach neither the sum nor the gradient.
    const at::Tensor weight = batch.column("weight"), unused = weight.eq(0);
    const at::Tensor rows =
        row_losses(logits.masked_fill(unused.unsqueeze(1), 0), batch, unused).masked_fill(unused, 0);
    return (rows * weight).sum() / weight.sum().clamp_min(1e-12);
  }

 private:
  /// [B]; the label of an unused row, where there are such, is not looked at.
  at::Tensor row_losses(const at::Tensor& logits, const Batch& batch, const at::Tensor& unused) const {
    const at::Tensor log_p = at::log_softmax(logits, 1);
    at::Tensor rows;
    if (batch.has("target")) {
      rows = -(batch.column("target") * log_p).sum(1);
    } else {
      at::Tensor label = batch.column("label");
      if (unused.defined()) label = label.masked_fill(unused, 0);
      rows = -log_p.gather(1, label.unsqueeze(1)).squeeze(1);
    }
    return smoothing_ > 0 ? rows * (1 - smoothing_) - log_p.mean(1) * smoothing_ : rows;
  }

  double smoothing_;
};

const bool kRegistered = describe<CrossEntropy, CrossEntropyOptions>("ce")
                             .summary("cross-entropy, hard or soft labels")
                             .paper("-")
                             .claims({Claim::kIsolated, Claim::kNeutralStart})
                             .option("smoothing", &CrossEntropyOptions::smoothing, in_range(0, 0.999),
                                     "share of the truth spread evenly over all classes")
                             .add();

}  // namespace
}  // namespace recast
