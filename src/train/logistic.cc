#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <deque>

#include "recast/train/learn.h"

namespace recast {
namespace {

/// Mean cross-entropy + |W|^2 / (2 C n) over rows x [n, D], as a function of theta = [W, b] flattened; the bias is
/// free.
class LogisticObjective {
 public:
  LogisticObjective(const at::Tensor& x, const at::Tensor& label, std::int64_t classes, double strength)
      : x_(x),
        label_(label.unsqueeze(1)),
        classes_(classes),
        rows_(static_cast<double>(x.size(0))),
        penalty_(1.0 / (strength * rows_)) {}

  /// Value and gradient in theta.
  std::pair<double, at::Tensor> operator()(const at::Tensor& theta) const {
    const std::int64_t width = x_.size(1);
    const at::Tensor w = theta.narrow(0, 0, classes_ * width).view({classes_, width});
    const at::Tensor b = theta.narrow(0, classes_ * width, classes_);
    const at::Tensor log_p = at::log_softmax(at::linear(x_, w, b), 1);
    const double loss = -log_p.gather(1, label_).sum().item<double>() / rows_;
    const double value = loss + 0.5 * penalty_ * at::dot(w.flatten(), w.flatten()).item<double>();
    at::Tensor residual = log_p.exp();
    residual.scatter_add_(1, label_, at::full_like(label_, -1, residual.options()));
    residual.div_(rows_);
    at::Tensor gradient = at::empty_like(theta);
    gradient.narrow(0, 0, classes_ * width).view({classes_, width}).copy_(residual.t().matmul(x_) + penalty_ * w);
    gradient.narrow(0, classes_ * width, classes_).copy_(residual.sum(0));
    return {value, gradient};
  }

 private:
  at::Tensor x_, label_;
  std::int64_t classes_;
  double rows_, penalty_;
};

/// Limited-memory BFGS (Nocedal and Wright, algorithm 7.5) with backtracking; stops at a small gradient or a step that
/// no longer pays. Moves theta in place.
void minimise(const LogisticObjective& objective, at::Tensor& theta) {
  constexpr int kMemory = 10, kIterations = 200;
  constexpr double kGradientTolerance = 1e-5, kProgressTolerance = 1e-9;
  std::deque<std::pair<at::Tensor, at::Tensor>> history;  // (step, change of the gradient)
  auto [value, gradient] = objective(theta);
  for (int iteration = 0; iteration < kIterations; ++iteration) {
    if (gradient.abs().max().item<double>() < kGradientTolerance) return;
    at::Tensor direction = -gradient;
    std::vector<double> alphas;
    for (auto pair = history.rbegin(); pair != history.rend(); ++pair) {
      const double rho = 1 / at::dot(pair->first, pair->second).item<double>();
      alphas.push_back(rho * at::dot(pair->first, direction).item<double>());
      direction.sub_(pair->second, alphas.back());
    }
    if (!history.empty()) {
      const auto& [s, y] = history.back();
      direction.mul_(at::dot(s, y).item<double>() / at::dot(y, y).item<double>());
    }
    for (auto pair = history.begin(); pair != history.end(); ++pair) {
      const double rho = 1 / at::dot(pair->first, pair->second).item<double>();
      const double beta = rho * at::dot(pair->second, direction).item<double>();
      direction.add_(pair->first, alphas.back() - beta);
      alphas.pop_back();
    }
    const double slope = at::dot(gradient, direction).item<double>();
    if (slope >= 0) return;
    double length = history.empty() ? std::min(1.0, 1.0 / gradient.abs().sum().item<double>()) : 1.0;
    double next_value = value;
    at::Tensor next_theta, next_gradient;
    for (int halving = 0; halving < 30; ++halving, length *= 0.5) {
      next_theta = theta + direction * length;
      std::tie(next_value, next_gradient) = objective(next_theta);
      if (next_value <= value + 1e-4 * length * slope) break;
    }
    if (!(next_value < value)) return;
    const at::Tensor s = next_theta - theta, y = next_gradient - gradient;
    if (at::dot(s, y).item<double>() > 1e-12) history.emplace_back(s, y);
    if (history.size() > kMemory) history.pop_front();
    const bool small = value - next_value < kProgressTolerance * std::max(1.0, std::abs(value));
    theta = next_theta;
    value = next_value;
    gradient = next_gradient;
    if (small) return;
  }
}

struct Score {
  double top1, loss;
};

Score score(const at::Tensor& x, const at::Tensor& label, const at::Tensor& w, const at::Tensor& b) {
  const at::Tensor logits = at::linear(x, w, b);
  const double rows = static_cast<double>(std::max<std::int64_t>(label.size(0), 1));
  return {logits.argmax(1).eq(label).sum().item<double>() / rows,
          -at::log_softmax(logits, 1).gather(1, label.unsqueeze(1)).sum().item<double>() / rows};
}

/// What features are divided by: their own deviation, but no less than a tenth of the typical one. Of the channels
/// after a ReLU many hardly ever fire; brought to unit deviation on a few hundred images, one that does on a new image
/// would outweigh all others.
at::Tensor scale_of(const at::Tensor& deviation) {
  const double typical = deviation.square().mean().sqrt().item<double>();
  return typical > 0 ? deviation.clamp_min(0.1 * typical) : at::ones_like(deviation);
}

}  // namespace

LinearClassifier fit_logistic(const FeatureTable& train, const FeatureTable& validation, std::int64_t classes) {
  const at::NoGradGuard no_grad;
  // From strong to weak, each start warm; the grid ends once two weaker ones in a row did worse on validation.
  constexpr double kStrengths[] = {0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10};
  const at::Tensor raw = train.features.to(at::kDouble);
  const at::Tensor mean = raw.mean(0);
  const at::Tensor deviation = raw.var(0, /*unbiased=*/false).sqrt();
  const at::Tensor scale = scale_of(deviation);
  const at::Tensor x = (raw - mean) / scale;
  const at::Tensor held_out = (validation.features.to(at::kDouble) - mean) / scale;
  const std::int64_t width = x.size(1);
  at::Tensor theta = at::zeros({classes * (width + 1)}, at::kDouble), best_theta;
  LinearClassifier best;
  double best_loss = INFINITY;
  int worse = 0;
  for (const double strength : kStrengths) {
    minimise(LogisticObjective(x, train.labels, classes, strength), theta);
    const at::Tensor w = theta.narrow(0, 0, classes * width).view({classes, width});
    const at::Tensor b = theta.narrow(0, classes * width, classes);
    const Score held = score(held_out, validation.labels, w, b);
    // By loss: it tells strengths apart where a small validation split gives equal accuracies.
    if (held.loss < best_loss) {
      best_loss = held.loss, worse = 0, best_theta = theta.clone();
      best.strength = strength, best.validation_top1 = held.top1;
    } else if (++worse == 2) {
      break;
    }
  }
  if (!best_theta.defined())
    fail(Code::kDataCorruption, "[learn] the features hold NaN or infinity: no head can be fitted");
  const at::Tensor w = best_theta.narrow(0, 0, classes * width).view({classes, width}) / scale;
  const at::Tensor b = best_theta.narrow(0, classes * width, classes) - w.matmul(mean);
  best.weight = w.to(at::kFloat).contiguous();
  best.bias = b.to(at::kFloat).contiguous();
  return best;
}

}  // namespace recast
