#include "gradient_solver.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "recast/base/error.h"

namespace recast {
namespace {

constexpr const char* kGradient = "gradient";
constexpr double kNoise = 1e-4;

struct Schedule {
  std::int64_t steps, drop_every;
  double rate;

  double rate_at(std::int64_t step) const { return rate * std::pow(0.1, static_cast<double>(step / drop_every)); }
};

/// The paper's for a ViT, or for a network of convolutions.
Schedule schedule_for(std::span<const SolverGroup> groups, const SolverSettings& settings) {
  const bool kernels =
      std::any_of(groups.begin(), groups.end(), [](const SolverGroup& group) { return group.weights[0].dim() == 4; });
  const std::int64_t steps = settings.steps > 0 ? settings.steps : kernels ? 3000 : 1000;
  return {steps, std::max<std::int64_t>(1, steps / (kernels ? 6 : 5)),
          settings.rate > 0 ? settings.rate
          : kernels         ? 0.2
                            : 0.1};
}

std::vector<GradientDescent::Bank> first_banks(std::span<const SolverGroup> groups) {
  std::vector<GradientDescent::Bank> banks;
  for (const SolverGroup& group : groups) {
    const Key key(group.seed);
    const auto L = static_cast<std::int64_t>(group.weights.size());
    banks.push_back({stacked(group), kaiming_normal(key, group.templates, group.weights[0].sizes()),
                     orthogonal(key, L, group.sets, group.templates), group.loss_factor});
  }
  return banks;
}

/// Drawn anew for each step; nothing at the last look.
std::vector<at::Tensor> noise_at(std::int64_t step, bool last, std::span<const SolverGroup> groups) {
  std::vector<at::Tensor> noise;
  for (const SolverGroup& group : groups) {
    const std::vector<std::int64_t> shape = {static_cast<std::int64_t>(group.weights.size()), group.sets,
                                             group.templates};
    noise.push_back(last ? at::zeros(shape)
                         : Key(group.seed).fold("noise", static_cast<std::uint64_t>(step)).normal(shape) * kNoise);
  }
  return noise;
}

DescentGuard guard_of(std::span<const SolverGroup> groups, const std::vector<GradientDescent::Bank>& banks,
                      double rate) {
  double nothing = 0, most = 0;
  std::int64_t slots = 0;
  for (const auto& bank : banks) nothing += loss_of_nothing(bank.weights, bank.factor);
  for (const SolverGroup& group : groups) {
    slots += static_cast<std::int64_t>(group.weights.size());
    most = std::max(most, group.loss_factor);
  }
  return {kGradient, rate, nothing, slots, most};
}

}  // namespace

GradientDescent::GradientDescent(std::vector<Bank> banks) {
  for (Bank& bank : banks) {
    weights_.push_back(bank.weights);
    templates_.push_back(bank.templates);
    coefficients_.push_back(bank.coefficients);
    factors_.push_back(bank.factor);
  }
}

double GradientDescent::look(const std::vector<at::Tensor>& noise) {
  double loss = 0;
  std::vector<at::Tensor> of_coefficients;
  gradients_.clear();
  for (std::size_t g = 0; g < weights_.size(); ++g) {
    BankGradient gradient = differentiate(weights_[g], templates_[g], coefficients_[g] + noise.at(g), factors_[g]);
    loss += gradient.loss;
    gradients_.push_back(std::move(gradient.templates));
    of_coefficients.push_back(std::move(gradient.coefficients));
  }
  gradients_.insert(gradients_.end(), of_coefficients.begin(), of_coefficients.end());
  return loss;
}

void GradientDescent::move(double rate) {
  double squares = 0;
  for (const at::Tensor& gradient : gradients_) squares += std::pow(gradient.norm().item<double>(), 2);
  const double scale = 1 / (std::sqrt(squares) + 1e-6);  // as clip_grad_norm_ has it
  if (scale < 1)
    for (at::Tensor& gradient : gradients_) gradient.mul_(scale);
  std::vector<at::Tensor> params = templates_;
  params.insert(params.end(), coefficients_.begin(), coefficients_.end());
  optimiser_.step(params, gradients_, rate);
}

std::vector<BankSolution> GradientSolver::solve(std::span<const SolverGroup> groups,
                                                const SolverSettings& settings) const {
  const Schedule schedule = schedule_for(groups, settings);
  std::vector<GradientDescent::Bank> banks = first_banks(groups);
  const DescentGuard guard = guard_of(groups, banks, schedule.rate);
  GradientDescent descent(std::move(banks));
  BestBank best;
  for (std::int64_t step = 0;; ++step) {
    const bool last = step == schedule.steps;
    const double loss = descent.look(noise_at(step, last, groups));
    guard.see(step, loss);
    best.offer(loss, descent.templates(), descent.coefficients());
    watch_step(settings, kGradient, step, schedule.steps);
    if (last) break;
    descent.move(schedule.rate_at(step));
  }
  guard.finish(schedule.steps, best.loss());
  std::vector<BankSolution> solutions;
  for (std::size_t g = 0; g < groups.size(); ++g) solutions.push_back(best.solution(g, groups[g]));
  return solutions;
}

}  // namespace recast
