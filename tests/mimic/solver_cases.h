#pragma once
// Groups of weights for the tests of the iterative solvers, and what PyTorch makes of them.
#include <ATen/ATen.h>

#include <cmath>
#include <string>
#include <vector>

#include "../../src/mimic/descent.h"
#include "methods/reference.h"
#include "recast/base/key.h"
#include "recast/mimic/mimicry.h"

namespace recast {

/// L slots of [rows, columns] with the spread of a trained network's weights.
inline SolverGroup random_group(std::int64_t L, std::int64_t rows, std::int64_t columns, std::int64_t n,
                                std::uint64_t seed = 3) {
  SolverGroup group;
  group.name = "toy";
  group.weights = (Key(seed).fold("weights").normal({L, rows, columns}) * 0.05).unbind();
  group.templates = n;
  group.seed = seed;
  return group;
}

/// L slots that are combinations of n hidden templates, so that a bank of n can hold them.
inline SolverGroup planted_group(std::int64_t L, std::int64_t n, std::uint64_t seed = 4) {
  SolverGroup group = random_group(L, 12, 10, n, seed);
  const at::Tensor hidden = Key(seed).fold("hidden").normal({n, 120}) * 0.05;
  group.weights = at::mm(Key(seed).fold("mix").normal({L, n}), hidden).view({L, 12, 10}).unbind();
  return group;
}

inline at::Tensor rebuilt(const BankSolution& bank) {
  return at::mm(bank.coefficients.mean(1), bank.templates.flatten(1));
}
/// ||W - W'|| / ||W|| of all slots together.
inline double error_left(const SolverGroup& group, const BankSolution& bank) {
  const at::Tensor w = stacked(group).to(at::kDouble);
  return ((rebuilt(bank).to(at::kDouble) - w).norm() / w.norm()).item<double>();
}

inline BankSolution solve_alone(const char* solver, const SolverGroup& group, const SolverSettings& settings = {}) {
  return mimicry_solver(solver).solve(std::span(&group, 1), settings).front();
}

/// Largest difference of a gradient from central differences of `loss` at a sample of elements of `param`, relative to
/// the gradient's largest element. fp64.
template <class Loss>
double finite_difference_error(const at::Tensor& param, const at::Tensor& gradient, const Loss& loss) {
  constexpr double kStep = 1e-6;
  double worst = 0;
  double* values = param.data_ptr<double>();
  const at::Tensor flat = gradient.contiguous().flatten();
  for (std::int64_t i = 0; i < param.numel(); i += std::max<std::int64_t>(1, param.numel() / 17)) {
    const double before = values[i];
    values[i] = before + kStep;
    const double above = loss();
    values[i] = before - kStep;
    const double below = loss();
    values[i] = before;
    worst = std::max(worst, std::abs((above - below) / (2 * kStep) - flat[i].item<double>()));
  }
  return worst / gradient.abs().max().item<double>();
}

/// Solves twice alike and once from another seed; returns the first solution.
inline BankSolution expect_seed_decides(const char* solver, std::int64_t steps) {
  const SolverGroup group = planted_group(3, 2, 7);
  const BankSolution a = solve_alone(solver, group, {.steps = steps}), b = solve_alone(solver, group, {.steps = steps});
  EXPECT_TRUE(a.templates.equal(b.templates) && a.coefficients.equal(b.coefficients));
  SolverGroup other = group;
  other.seed = 8;
  EXPECT_FALSE(solve_alone(solver, other, {.steps = steps}).templates.equal(a.templates));
  return a;
}

}  // namespace recast
