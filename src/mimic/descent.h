#pragma once
// What the two iterative solvers share. Shapes: L slots, P elements of a slot's weight, n templates, K sets.
#include <ATen/core/Tensor.h>

#include <cmath>
#include <string>
#include <vector>

#include "recast/base/key.h"
#include "recast/mimic/mimicry.h"

namespace recast {

/// factor * sum over slots of the mean SmoothL1 (beta 1) of R_l - W_l with R_l = (1/K) sum_k sum_i c[l,k,i] T_i, and
/// its gradients. W [L, P], T [n, P], c [L, K, n], all of one floating dtype, in which everything is computed.
struct BankGradient {
  double loss = 0;
  at::Tensor templates, coefficients;
};
BankGradient differentiate(const at::Tensor& weights, const at::Tensor& templates, const at::Tensor& coefficients,
                           double factor);
/// The loss of a bank of zeros: what any bank must stay below to be of use.
double loss_of_nothing(const at::Tensor& weights, double factor);

/// PyTorch's RMSprop at its defaults: v <- 0.99 v + 0.01 g^2, p <- p - rate * g / (sqrt(v) + 1e-8).
class RmsProp {
 public:
  /// Moves `params` in place; call it with the same tensors every time. Gradients of the same shapes, which it may use
  /// up.
  void step(const std::vector<at::Tensor>& params, const std::vector<at::Tensor>& gradients, double rate);

 private:
  std::vector<at::Tensor> squares_;
};

/// A group's weights as rows [L, P]: a copy.
at::Tensor stacked(const SolverGroup& group);

/// Templates [n, P] as PyTorch initialises one weight of `shape` each: normal, std sqrt(2 / fan_in), where fan_in is
/// the number of elements of a weight's row.
at::Tensor kaiming_normal(const Key& key, std::int64_t templates, at::IntArrayRef shape);
/// As nn.init.orthogonal_: [L, K, n] whose L rows of K n numbers are orthonormal (its columns where L > K n).
at::Tensor orthogonal(const Key& key, std::int64_t slots, std::int64_t sets, std::int64_t templates);

/// The bank with the least loss seen.
class BestBank {
 public:
  /// Copies the tensors if `loss` is below all before.
  void offer(double loss, const std::vector<at::Tensor>& templates, const std::vector<at::Tensor>& coefficients);
  double loss() const { return loss_; }
  /// Of one group, in the shape of its weights.
  BankSolution solution(std::size_t index, const SolverGroup& group) const;

 private:
  double loss_ = INFINITY;
  std::vector<at::Tensor> templates_, coefficients_;
};

/// Ends a run that leads nowhere (kInvalidArgument, with the step and what helps) or is asked to stop (kCancelled).
class DescentGuard {
 public:
  /// nothing: loss_of_nothing() of all that is solved together; slots: how many that is.
  DescentGuard(const char* solver, double rate, double nothing, std::int64_t slots, double factor);
  /// After the loss of a step was seen.
  void see(std::int64_t step, double loss, const std::string& group = {}) const;
  /// At the end: the best must be better than nothing.
  void finish(std::int64_t steps, double best, const std::string& group = {}) const;

 private:
  const char* solver_;
  const double rate_, nothing_, limit_;
};
/// Throws kCancelled if a stop is asked for, else reports.
void watch_step(const SolverSettings& settings, const char* solver, std::int64_t done, std::int64_t total);

}  // namespace recast
