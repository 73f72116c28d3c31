#include "descent.h"

#include <ATen/ATen.h>

#include <cmath>
#include <numeric>

#include "recast/base/error.h"

namespace recast {
namespace {

/// Sum of SmoothL1 of `difference`, and its derivative: with g = clamp(d, -1, 1) it is g d - g^2 / 2 on both branches.
struct SmoothL1 {
  double sum;
  at::Tensor derivative;
};

SmoothL1 smooth_l1(const at::Tensor& difference) {
  const at::Tensor g = difference.clamp(-1, 1);
  double sum = 0;
  for (std::int64_t l = 0; l < g.size(0); ++l)  // a row at a time: short sums keep their digits
    sum += g[l].dot(difference[l]).item<double>() - g[l].dot(g[l]).item<double>() / 2;
  return {sum, g};
}

/// Elements that the loss is averaged over.
double mean_over(const at::Tensor& weights) { return static_cast<double>(weights.size(1)); }

std::string where(const std::string& group) { return group.empty() ? "" : " (bank " + group + ")"; }

}  // namespace

BankGradient differentiate(const at::Tensor& weights, const at::Tensor& templates, const at::Tensor& coefficients,
                           double factor) {
  const at::Tensor mean = coefficients.mean(1);  // [L, n]
  const SmoothL1 loss = smooth_l1(at::mm(mean, templates).sub_(weights));
  const double scale = factor / mean_over(weights), sets = static_cast<double>(coefficients.size(1));
  const at::Tensor of_mean = at::mm(loss.derivative, templates.t()).mul_(scale / sets);
  return {scale * loss.sum, at::mm(mean.t(), loss.derivative).mul_(scale),
          of_mean.unsqueeze(1).expand(coefficients.sizes()).contiguous()};
}

double loss_of_nothing(const at::Tensor& weights, double factor) {
  return factor / mean_over(weights) * smooth_l1(weights).sum;
}

void RmsProp::step(const std::vector<at::Tensor>& params, const std::vector<at::Tensor>& gradients, double rate) {
  constexpr double kDecay = 0.99, kEps = 1e-8;
  if (squares_.empty())
    for (const at::Tensor& param : params) squares_.push_back(at::zeros_like(param));
  for (std::size_t i = 0; i < params.size(); ++i) {
    squares_[i].mul_(kDecay).addcmul_(gradients[i], gradients[i], 1 - kDecay);
    at::Tensor param = params[i];
    param.addcdiv_(gradients[i], squares_[i].sqrt().add_(kEps), -rate);
  }
}

at::Tensor stacked(const SolverGroup& group) { return at::stack(group.weights).flatten(1); }

at::Tensor kaiming_normal(const Key& key, std::int64_t templates, at::IntArrayRef shape) {
  const std::int64_t elements = c10::multiply_integers(shape), fan_in = elements / shape[0];
  return key.fold("templates").normal({templates, elements}) * std::sqrt(2.0 / static_cast<double>(fan_in));
}

at::Tensor orthogonal(const Key& key, std::int64_t slots, std::int64_t sets, std::int64_t templates) {
  const std::int64_t columns = sets * templates;
  const bool wide = slots < columns;
  const at::Tensor drawn = key.fold("coefficients").normal({slots, columns}).to(at::kDouble);
  auto [q, r] = at::linalg_qr(wide ? drawn.t() : drawn);
  q = q * r.diagonal().sign();
  return (wide ? q.t() : q).to(at::kFloat).reshape({slots, sets, templates}).contiguous();
}

void BestBank::offer(double loss, const std::vector<at::Tensor>& templates,
                     const std::vector<at::Tensor>& coefficients) {
  if (!(loss < loss_)) return;
  loss_ = loss;
  const auto keep = [](std::vector<at::Tensor>& kept, const std::vector<at::Tensor>& from) {
    if (kept.empty())
      for (const at::Tensor& tensor : from) kept.push_back(at::empty_like(tensor));
    for (std::size_t i = 0; i < from.size(); ++i) kept[i].copy_(from[i]);
  };
  keep(templates_, templates);
  keep(coefficients_, coefficients);
}

BankSolution BestBank::solution(std::size_t index, const SolverGroup& group) const {
  std::vector<std::int64_t> shape = group.weights[0].sizes().vec();
  shape.insert(shape.begin(), group.templates);
  return {templates_.at(index).reshape(shape), coefficients_.at(index)};
}

DescentGuard::DescentGuard(const char* solver, double rate, double nothing, std::int64_t slots, double factor)
    : solver_(solver),
      rate_(rate),
      nothing_(nothing),
      // Weights that are a million off on average: no way leads back from there at these rates.
      limit_(nothing + 1e6 * factor * static_cast<double>(slots)) {}

void DescentGuard::see(std::int64_t step, double loss, const std::string& group) const {
  if (loss <= limit_) return;  // false for NaN, too
  fail(Code::kInvalidArgument,
       "[mimic] solver {}{} diverged at step {}: its loss became {:.3g}; lower --rate (it was {:g}), or take --solver "
       "closed, which has no steps",
       solver_, where(group), step, loss, rate_);
}

void DescentGuard::finish(std::int64_t steps, double best, const std::string& group) const {
  if (best < nothing_ || nothing_ == 0) return;
  fail(
      Code::kInvalidArgument,
      "[mimic] solver {}{} diverged: after {} steps its best loss, {:.3g}, is not below the {:.3g} of a bank of zeros; "
      "give more --steps or another --rate (it was {:g}), or take --solver closed, which has no steps",
      solver_, where(group), steps, best, nothing_, rate_);
}

void watch_step(const SolverSettings& settings, const char* solver, std::int64_t done, std::int64_t total) {
  if (settings.stop && *settings.stop)
    fail(Code::kCancelled, "[mimic] stopped on request at step {} of {} of solver {}; nothing was written", done, total,
         solver);
  if (settings.progress) settings.progress(done, total);
}

}  // namespace recast
