#pragma once
#include <vector>

#include "descent.h"
#include "recast/mimic/mimicry.h"

namespace recast {

/// All banks under descent together: one loss, one gradient norm.
class GradientDescent {
 public:
  struct Bank {
    at::Tensor weights;                  ///< [L, P], read
    at::Tensor templates, coefficients;  ///< [n, P] and [L, K, n], moved in place
    double factor;                       ///< of each slot's loss
  };
  explicit GradientDescent(std::vector<Bank> banks);

  /// The loss of all banks at their coefficients + noise (one tensor a bank, of the coefficients' shape), whose
  /// gradients move() will take.
  double look(const std::vector<at::Tensor>& noise);
  /// Clips all gradients together to norm 1, then one step of RMSprop.
  void move(double rate);

  const std::vector<at::Tensor>& templates() const { return templates_; }
  const std::vector<at::Tensor>& coefficients() const { return coefficients_; }

 private:
  std::vector<at::Tensor> weights_, templates_, coefficients_, gradients_;  // gradients: templates, then coefficients
  std::vector<double> factors_;
  RmsProp optimiser_;
};

/// The paper's solver (RECAST, arXiv:2411.16870, section 3.2 and appendix). Templates start Kaiming-normal,
/// coefficients orthogonal. Loss: SmoothL1 of each slot times its factor, at coefficients with normal noise of std
/// 1e-4. RMSprop at 0.1, times 0.1 every 200 of 1000 steps; with convolution kernels 0.2, every 500 of 3000; where
/// other --steps are asked for the drops move along. The gradient norm of all banks together is clipped to 1. The best
/// step is kept.
class GradientSolver final : public MimicrySolver {
 public:
  std::vector<BankSolution> solve(std::span<const SolverGroup> groups, const SolverSettings& settings) const override;
};

}  // namespace recast
