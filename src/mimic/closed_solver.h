#pragma once
#include "recast/mimic/mimicry.h"

namespace recast {

/// n >= L: T_i = W_i, coefficients one-hot, exact; templates beyond L are random directions with the spread of the
/// group's weights and coefficient 0, room for a task to move in. n < L: the least-squares optimum, truncated SVD.
/// All K sets are equal.
class ClosedSolver final : public MimicrySolver {
 public:
  std::vector<BankSolution> solve(std::span<const SolverGroup> groups, const SolverSettings& settings) const override;
};

}  // namespace recast
