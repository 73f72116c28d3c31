// AdamW. Loshchilov and Hutter, ICLR 2019, arXiv:1711.05101, algorithm 2.
// Idea     p <- p - rate * decay * p; then p <- p - rate * m^ / (sqrt(v^) + eps), m^ and v^ bias-corrected.
// State    run only: m and v like each parameter, t steps taken by it (a parameter born later starts at 0).
#include <ATen/ATen.h>

#include <cmath>

#include "recast/method/registry.h"

namespace recast {
namespace {

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
};

class AdamW final : public Method, public UpdateRule {
 public:
  explicit AdamW(AdamWOptions options) : options_(options) {}

  bool takes(const Param&) const override { return true; }

  void apply(std::span<Param> params, std::span<const double> factors, Step& step) const override {
    State& own = step.context().own(Scope::kRun);
    for (std::size_t i = 0; i < params.size(); ++i) move(params[i], params[i].rate * factors[i], own);
  }

 private:
  void move(Param& param, double rate, State& own) const {
    const at::Tensor grad = param.value.grad();
    if (!grad.defined()) return;
    const std::string m_name = number_name("m", param.name), v_name = number_name("v", param.name),
                      t_name = number_name("t", param.name);
    if (!own.has(t_name)) {
      own.set(m_name, at::zeros_like(param.value));
      own.set(v_name, at::zeros_like(param.value));
      own.set(t_name, std::int64_t{0});
    }
    const std::int64_t t = own.integer(t_name) + 1;
    own.set(t_name, t);
    at::Tensor m = own.tensor(m_name), v = own.tensor(v_name);
    param.value.mul_(1 - rate * param.decay);
    m.lerp_(grad, 1 - options_.beta1);
    v.mul_(options_.beta2).addcmul_(grad, grad, 1 - options_.beta2);
    const double correction1 = 1 - std::pow(options_.beta1, static_cast<double>(t));
    const double correction2 = 1 - std::pow(options_.beta2, static_cast<double>(t));
    const at::Tensor denominator = v.sqrt().div_(std::sqrt(correction2)).add_(options_.eps);
    param.value.addcdiv_(m, denominator, -rate / correction1);
  }

  AdamWOptions options_;
};

const bool kRegistered = describe<AdamW, AdamWOptions>("adamw")
                             .summary("adaptive moments with decoupled weight decay")
                             .paper("arXiv:1711.05101")
                             .families({{.name = "m", .scope = Scope::kRun, .trains = false},
                                        {.name = "v", .scope = Scope::kRun, .trains = false},
                                        {.name = "t", .scope = Scope::kRun, .trains = false}})
                             .claims({Claim::kIsolated, Claim::kNeutralStart})
                             .option("beta1", &AdamWOptions::beta1, in_range(0, 0.9999), "decay of the first moment")
                             .option("beta2", &AdamWOptions::beta2, in_range(0, 0.999999), "decay of the second moment")
                             .option("eps", &AdamWOptions::eps, positive(), "added to the denominator")
                             .add();

}  // namespace
}  // namespace recast
