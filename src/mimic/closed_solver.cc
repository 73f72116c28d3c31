#include "closed_solver.h"

#include <ATen/ATen.h>

#include <cmath>

#include "recast/base/error.h"
#include "recast/base/key.h"
#include "row_passes.h"

namespace recast {
namespace {

/// An eigenvector's sign is free: the largest component is made positive, so the result depends on the weights alone.
at::Tensor with_fixed_signs(const at::Tensor& vectors) {
  const at::Tensor largest = vectors.gather(0, vectors.abs().argmax(0, /*keepdim=*/true));
  return vectors * at::where(largest < 0, -1.0, 1.0);
}

/// With W W^T = U S^2 U^T the best rank-n approximation of W [L, P] is U_n (U_n^T W).
BankSolution truncate(const std::vector<at::Tensor>& weights, at::Tensor templates) {
  const auto [values, vectors] = at::linalg_eigh(gram(weights));  // of the lower triangle, in ascending order
  const std::int64_t L = vectors.size(0);
  const at::Tensor u = with_fixed_signs(vectors.slice(1, L - templates.size(0)).flip(1)).contiguous();
  combine(weights, u, templates);
  return {std::move(templates), u.to(at::kFloat)};
}

double mean_square(const std::vector<at::Tensor>& weights) {
  const auto L = static_cast<std::int64_t>(weights.size());
  return gram(weights).trace().item<double>() / static_cast<double>(L * weights[0].numel());
}

BankSolution keep_all(const std::vector<at::Tensor>& weights, at::Tensor templates, std::uint64_t seed) {
  const auto L = static_cast<std::int64_t>(weights.size()), n = templates.size(0);
  at::Tensor kept = templates.narrow(0, 0, L);
  copy(weights, kept);
  if (n > L) {
    const at::Tensor directions = Key(seed).fold("directions").normal({n - L, weights[0].numel()});
    templates.narrow(0, L, n - L).flatten(1).copy_(directions * std::sqrt(mean_square(weights)));
  }
  return {std::move(templates), at::eye(L, n, at::kFloat)};
}

BankSolution solve_group(const SolverGroup& group) {
  const auto L = static_cast<std::int64_t>(group.weights.size()), n = group.templates;
  RECAST_ASSERT(L >= 1 && n >= 1);
  std::vector<at::Tensor> weights;
  for (const at::Tensor& weight : group.weights) {
    RECAST_ASSERT(weight.scalar_type() == at::kFloat && weight.sizes() == group.weights[0].sizes());
    weights.push_back(weight.contiguous());
  }
  std::vector<std::int64_t> shape = weights[0].sizes().vec();
  shape.insert(shape.begin(), n);
  at::Tensor templates = at::empty(shape, at::kFloat);
  BankSolution solution =
      n < L ? truncate(weights, std::move(templates)) : keep_all(weights, std::move(templates), group.seed);
  solution.coefficients = solution.coefficients.unsqueeze(1).expand({L, group.sets, n}).contiguous();
  return solution;
}

}  // namespace

std::vector<BankSolution> ClosedSolver::solve(std::span<const SolverGroup> groups,
                                              const SolverSettings& settings) const {
  if (settings.steps > 0 || settings.rate > 0)
    fail(Code::kInvalidArgument, "[mimic] solver closed takes no steps: leave --steps and --rate out");
  std::vector<BankSolution> solutions;
  for (const SolverGroup& group : groups) {
    if (settings.stop && *settings.stop) fail(Code::kCancelled, "[mimic] stopped on request; nothing was written");
    solutions.push_back(solve_group(group));
  }
  return solutions;
}

}  // namespace recast
