// Nearest class mean, the plainest head for a frozen backbone. Mensink et al., TPAMI 2013, and every table of
// class-incremental learning.
// Idea     mu_c = mean feature of class c over all rows seen; the answer is the class whose mean is nearest.
// State    sum [C, D] and count [C], double, shared: 8 C (D + 1) bytes. Sums add up over machines, steps and order.
// Logits   -|x - mu_c|^2, or the cosine of x and mu_c; a class without a row is never the answer.
#include <ATen/ATen.h>

#include "recast/method/registry.h"
#include "recast/method/truth.h"

namespace recast {
namespace {

struct NcmOptions {
  std::string distance = "euclidean";
};

class Ncm final : public Method, public Head {
 public:
  explicit Ncm(const NcmOptions& options) : cosine_(options.distance == "cosine") {}

  Fields forward(const Fields& in, const Fields*, const View& numbers, Pass&) const override {
    const State& own = numbers.state(Scope::kShared);
    at::Tensor x = in.at("features").to(at::kDouble), mean = means(own);
    if (cosine_) {
      x = x / x.norm(2, {1}, true).clamp_min(1e-12);
      mean = mean / mean.norm(2, {1}, true).clamp_min(1e-12);
    }
    at::Tensor logits = at::matmul(x, mean.t());
    if (!cosine_) logits = 2 * logits - mean.square().sum(1) - x.square().sum(1, true);
    logits = logits.masked_fill(own.tensor("count").eq(0), -1e30);
    return {{"logits", logits.to(at::kFloat)}};
  }

  void grow(std::span<const std::int64_t> columns, Context& context) const override {
    const auto more = static_cast<std::int64_t>(columns.size());
    append_rows(context, "sum", at::zeros({more, context.feature_width()}, at::kDouble));
    append_rows(context, "count", at::zeros({more}, at::kDouble));
  }

  void observe(const Fields& in, const Fields&, const Batch& truth, State& own) const override {
    const at::Tensor x = finite_features("ncm", in, truth).to(at::kDouble);
    at::Tensor sum = own.tensor("sum"), count = own.tensor("count");
    const at::Tensor label = known_columns("ncm", truth, sum.size(0));
    sum.index_add_(0, label, x);
    count.index_add_(0, label, at::ones({x.size(0)}, at::kDouble));
  }

  std::optional<at::Tensor> class_rows(const State& own) const override {
    if (!own.has("sum")) return {};
    return means(own).to(at::kFloat);
  }

  std::optional<Phase> next_phase(When when, Context& context) const override {
    if (when != When::kMain) return {};
    return one_pass(context, "means");
  }
  bool draws() const override { return false; }
  std::optional<std::int64_t> learned_numbers(const State& state) const override {
    return state.has("sum") ? state.tensor("sum").numel() : 0;
  }

 private:
  static at::Tensor means(const State& own) {
    return own.tensor("sum") / own.tensor("count").clamp_min(1).unsqueeze(1);
  }

  bool cosine_;
};

const bool kRegistered =
    describe<Ncm, NcmOptions>("ncm")
        .summary("the class whose mean feature is nearest; learns in any order, one pass")
        .paper("-")
        .families({{.name = "sum",
                    .scope = Scope::kShared,
                    .trains = false,
                    .rows = Rows::kPerClass,
                    .pool = Pool::kSum,
                    .dtype = at::kDouble},
                   {.name = "count",
                    .scope = Scope::kShared,
                    .trains = false,
                    .rows = Rows::kPerClass,
                    .pool = Pool::kSum,
                    .dtype = at::kDouble},
                   {.name = "passed", .scope = Scope::kRun, .trains = false, .dtype = at::kLong}})
        .claims({Claim::kNeutralStart, Claim::kOrderFree})
        .needs({Need::kFixedFeatures})
        .option("distance", &NcmOptions::distance, one_of({"euclidean", "cosine"}), "how near is measured")
        .add();

}  // namespace
}  // namespace recast
