#include "encoder_solver.h"

#include <ATen/ATen.h>

#include <cmath>

#include "recast/base/error.h"

namespace recast {
namespace {

constexpr const char* kEncoder = "encoder";
constexpr std::int64_t kWidth = 8;
constexpr double kSlope = 0.01;

Encoder::Layer first_layer(const Key& key, std::int64_t inputs, std::int64_t outputs) {
  const double bound = 1 / std::sqrt(static_cast<double>(inputs));
  const auto draw = [&](const char* name, at::IntArrayRef shape) {
    return (key.fold(name).uniform(shape) * 2 - 1) * bound;
  };
  return {draw("weight", {outputs, inputs}), draw("bias", {outputs})};
}

at::Tensor leaky(const at::Tensor& x) { return at::leaky_relu(x, kSlope); }

double cosine_rate(double rate, std::int64_t step, std::int64_t steps) {
  return rate / 2 * (1 + std::cos(M_PI * static_cast<double>(step) / static_cast<double>(steps)));
}

/// Runs one group; `report` is called after each step with the steps done.
template <class Report>
BankSolution solve_group(const SolverGroup& group, std::int64_t steps, double rate, const Report& report) {
  const Key key(group.seed);
  const at::Tensor weights = stacked(group);
  const std::int64_t L = weights.size(0), K = group.sets, n = group.templates;
  const at::Tensor templates = kaiming_normal(key, n, group.weights[0].sizes());
  Encoder encoder(key.fold("encoder"), weights.size(1), K * n);
  std::vector<at::Tensor> params = encoder.params();
  params.push_back(templates);
  RmsProp optimiser;
  BestBank best;
  const DescentGuard guard(kEncoder, rate, loss_of_nothing(weights, 1), L, 1);
  for (std::int64_t step = 0;; ++step) {
    const at::Tensor coefficients = encoder.encode(weights).view({L, K, n});
    const BankGradient gradient = differentiate(weights, templates, coefficients, 1);
    guard.see(step, gradient.loss, group.name);
    best.offer(gradient.loss, {templates}, {coefficients});
    report(step);
    if (step == steps) break;
    std::vector<at::Tensor> gradients = encoder.gradients(gradient.coefficients.view({L, K * n}));
    gradients.push_back(gradient.templates);
    optimiser.step(params, gradients, cosine_rate(rate, step, steps));
  }
  guard.finish(steps, best.loss(), group.name);
  return best.solution(0, group);
}

}  // namespace

Encoder::Encoder(const Key& key, std::int64_t elements, std::int64_t outputs)
    : layers_{first_layer(key.fold("layer", 0), elements, kWidth), first_layer(key.fold("layer", 1), kWidth, kWidth),
              first_layer(key.fold("layer", 2), kWidth, outputs)} {}

at::Tensor Encoder::encode(const at::Tensor& weights) {
  at::Tensor x = weights;
  for (std::size_t i = 0; i < 3; ++i) {
    inputs_[i] = x;
    x = at::mm(x, layers_[i].weight.t()) + layers_[i].bias;
    if (i == 2) break;
    before_[i] = x;
    x = leaky(x);
  }
  return x;
}

std::vector<at::Tensor> Encoder::gradients(const at::Tensor& of_output) const {
  std::vector<at::Tensor> out(6);
  at::Tensor g = of_output;
  for (std::size_t i = 3; i-- > 0;) {
    if (i < 2) g = at::where(before_[i] > 0, g, g * kSlope);
    out[2 * i] = at::mm(g.t(), inputs_[i]);
    out[2 * i + 1] = g.sum(0);
    if (i > 0) g = at::mm(g, layers_[i].weight);
  }
  return out;
}

std::vector<at::Tensor> Encoder::params() const {
  std::vector<at::Tensor> out;
  for (const Layer& layer : layers_) out.insert(out.end(), {layer.weight, layer.bias});
  return out;
}

std::vector<BankSolution> EncoderSolver::solve(std::span<const SolverGroup> groups,
                                               const SolverSettings& settings) const {
  const std::int64_t steps = settings.steps > 0 ? settings.steps : 2500;
  const double rate = settings.rate > 0 ? settings.rate : 2e-3;
  std::vector<BankSolution> solutions;
  std::int64_t before = 0;
  for (const SolverGroup& group : groups) {
    solutions.push_back(solve_group(group, steps, rate, [&](std::int64_t done) {
      watch_step(settings, kEncoder, before + done, steps * static_cast<std::int64_t>(groups.size()));
    }));
    before += steps;
  }
  return solutions;
}

}  // namespace recast
