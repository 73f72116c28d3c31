#pragma once
#include <string>
#include <vector>

#include "recast/model/model_files.h"

namespace recast {

struct MimicryOptions {
  std::string target = "attn";   ///< attn (qkv) | mlp (fc1, fc2) | attn+mlp | all (qkv, proj, fc1, fc2)
  std::int64_t groups = 6;       ///< runs of consecutive layers; each role of a run has a bank of its own
  std::int64_t templates = 2;    ///< n per bank
  std::int64_t sets = 2;         ///< K coefficient vectors a slot
  std::string solver = "closed";
  std::uint64_t seed = 42;
};

/// How well a slot's weight is rebuilt: ||W - W'||_F / ||W||_F and cosine, both in double.
struct SlotFidelity {
  std::string slot;
  double relative_error, cosine;
};

struct Mimicry {
  ModelFiles files;
  std::vector<SlotFidelity> fidelity;   ///< in depth order
  std::int64_t coefficients;            ///< numbers a task trains at grain slot: slots * K * n
};

/// One group's solution: templates [n, P...] and, per slot, one coefficient vector a[L, n] (all K sets start equal).
struct BankSolution {
  at::Tensor templates, coefficients;
};

/// A way to find a bank for the stacked weights of one group [L, shape...] (fp32). Const; calls may run in parallel.
class MimicrySolver {
 public:
  virtual ~MimicrySolver() = default;
  virtual BankSolution solve(const at::Tensor& weights, std::int64_t templates, std::uint64_t seed) const = 0;
};
/// `closed`: exact for n >= L (T_i = W_i), else truncated SVD through the Gram matrix in double. Throws
/// kInvalidArgument for an unknown name, with the nearest.
const MimicrySolver& mimicry_solver(const std::string& name);
std::vector<std::string> mimicry_solver_names();

/// Neural Mimicry (RECAST, arXiv:2411.16870, section 3.2): turns the weights of the target slots into banks.
/// The source may itself be mimicked: its dense weights are rebuilt first.
Mimicry mimic(const ModelFiles& source, const MimicryOptions&);

}  // namespace recast
