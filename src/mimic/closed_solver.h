#pragma once
#include "recast/mimic/mimicry.h"

namespace recast {

/// n >= L: T_i = W_i, coefficients one-hot, exact; templates beyond L are random directions with the spread of the
/// group's weights and coefficient 0, room for a task to move in. n < L: the least-squares optimum, truncated SVD.
class ClosedSolver final : public MimicrySolver {
 public:
  BankSolution solve(const at::Tensor& weights, std::int64_t templates, std::uint64_t seed) const override;
};

}  // namespace recast
