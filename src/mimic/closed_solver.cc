#include "closed_solver.h"

#include <ATen/ATen.h>

#include "recast/base/error.h"
#include "recast/base/key.h"

namespace recast {
namespace {

/// Columns of the stacked weights that are held in double at a time.
constexpr std::int64_t kChunk = 1 << 18;

/// Runs `visit` on successive columns of `rows` [L, P] as double [L, chunk].
template <class Visit>
void for_chunks(const at::Tensor& rows, const Visit& visit) {
  for (std::int64_t begin = 0; begin < rows.size(1); begin += kChunk) {
    visit(begin, rows.slice(1, begin, std::min(begin + kChunk, rows.size(1))).to(at::kDouble));
  }
}

at::Tensor gram(const at::Tensor& rows) {
  at::Tensor sum = at::zeros({rows.size(0), rows.size(0)}, at::kDouble);
  for_chunks(rows, [&](std::int64_t, const at::Tensor& chunk) { sum += at::mm(chunk, chunk.t()); });
  return sum;
}

/// An eigenvector's sign is free: the largest component is made positive, so the result depends on the weights alone.
at::Tensor with_fixed_signs(const at::Tensor& vectors) {
  const at::Tensor largest = vectors.gather(0, vectors.abs().argmax(0, /*keepdim=*/true));
  return vectors * at::where(largest < 0, -1.0, 1.0);
}

/// With W W^T = U S^2 U^T the best rank-n approximation of W [L, P] is U_n (U_n^T W).
BankSolution truncate(const at::Tensor& rows, std::int64_t n) {
  const auto [values, vectors] = at::linalg_eigh(gram(rows));  // in ascending order
  const at::Tensor u = with_fixed_signs(vectors.slice(1, vectors.size(1) - n).flip(1));
  BankSolution solution{at::empty({n, rows.size(1)}, at::kFloat), u.to(at::kFloat)};
  for_chunks(rows, [&](std::int64_t begin, const at::Tensor& chunk) {
    solution.templates.slice(1, begin, begin + chunk.size(1)).copy_(at::mm(u.t(), chunk));
  });
  return solution;
}

BankSolution keep_all(const at::Tensor& rows, std::int64_t n, std::uint64_t seed) {
  const std::int64_t L = rows.size(0);
  BankSolution solution{rows.clone(), at::eye(L, n, at::kFloat)};
  if (n == L) return solution;
  double squares = 0;
  for_chunks(rows,
             [&](std::int64_t, const at::Tensor& chunk) { squares += chunk.square().sum(1).sum().item<double>(); });
  const double spread = std::sqrt(squares / static_cast<double>(rows.numel()));
  const at::Tensor directions = Key(seed).fold("directions").normal({n - L, rows.size(1)}) * spread;
  solution.templates = at::cat({solution.templates, directions});
  return solution;
}

BankSolution solve_group(const SolverGroup& group) {
  const at::Tensor& weights = group.weights;
  const std::int64_t L = weights.size(0), n = group.templates;
  RECAST_ASSERT(weights.dim() >= 2 && weights.scalar_type() == at::kFloat && n >= 1);
  const at::Tensor rows = weights.flatten(1).contiguous();
  BankSolution solution = n < L ? truncate(rows, n) : keep_all(rows, n, group.seed);
  std::vector<std::int64_t> shape = weights.sizes().vec();
  shape[0] = n;
  solution.templates = solution.templates.reshape(shape);
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
