// Cross-entropy of the softmax of the logits, in fp32.
// Idea     mean over rows of -sum_c t_c log softmax(z)_c; t is one-hot from "label" or the soft "target" [B, C].
// Rows     weighted by "weight" [B] where the batch has it: sum(w l) / sum(w); rows of weight 0 do not matter.
#include <ATen/ops/log_softmax.h>

#include "recast/method/registry.h"

namespace recast {
namespace {

struct CrossEntropyOptions {
  double smoothing = 0;
};

class CrossEntropy final : public Method, public LossTerm {
 public:
  explicit CrossEntropy(CrossEntropyOptions options) : smoothing_(options.smoothing) {}

  Roles roles() const override {
    Roles roles;
    roles.loss = this;
    return roles;
  }
  bool primary() const override { return true; }

  at::Tensor loss(const Batch& batch, const Fields& out, Step&) const override {
    const at::Tensor log_p = at::log_softmax(out.at("logits").to(at::kFloat), 1);
    at::Tensor rows = batch.has("target")
                          ? -(batch.column("target") * log_p).sum(1)
                          : -log_p.gather(1, batch.column("label").unsqueeze(1)).squeeze(1);
    if (smoothing_ > 0) rows = rows * (1 - smoothing_) - log_p.mean(1) * smoothing_;
    if (!batch.has("weight")) return rows.mean();
    const at::Tensor weight = batch.column("weight");
    // A row of weight 0 may hold anything, NaN too: it must not reach the sum.
    rows = rows.masked_fill(weight.eq(0), 0);
    return (rows * weight).sum() / weight.sum().clamp_min(1e-12);
  }

 private:
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
