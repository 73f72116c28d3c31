#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "recast/model/model_files.h"

namespace recast {

struct MimicryOptions {
  std::string target = "attn";  ///< attn (qkv) | mlp (fc1, fc2) | attn+mlp | all (qkv, proj, fc1, fc2)
  std::int64_t groups = 6;      ///< runs of consecutive layers; each role of a run has a bank of its own
  std::int64_t templates = 2;   ///< n per bank
  std::int64_t sets = 2;        ///< K coefficient vectors a slot
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
  std::vector<SlotFidelity> fidelity;  ///< in depth order
  std::int64_t coefficients;           ///< numbers a task trains at grain slot: slots * K * n
};

/// One group's solution: templates [n, shape...] and, per slot, one coefficient vector: a [L, n] (all K sets start
/// equal), both fp32.
struct BankSolution {
  at::Tensor templates, coefficients;
};

/// A way to find a bank for the stacked weights of one group [L, shape...] (fp32). Const; calls may run in parallel.
class MimicrySolver {
 public:
  virtual ~MimicrySolver() = default;
  virtual BankSolution solve(const at::Tensor& weights, std::int64_t templates, std::uint64_t seed) const = 0;
};
/// `closed`: n >= L is exact (T_i = W_i, coefficients one-hot; templates beyond L are random directions as large as the
/// group's weights, drawn from the seed, with coefficient 0), else truncated SVD through the Gram matrix in double.
/// Throws kInvalidArgument for an unknown name, with the nearest.
const MimicrySolver& mimicry_solver(const std::string& name);
std::vector<std::string> mimicry_solver_names();

/// Neural Mimicry (RECAST, arXiv:2411.16870, section 3.2): turns the weights of the target slots into banks. With L
/// slots of a role, bank "ROLE.g" of G takes slots g L / G to (g + 1) L / G, so runs differ by at most one in length.
/// The source may itself be mimicked: its dense weights are rebuilt first. Throws kInvalidArgument on an unknown target
/// or solver, groups outside 1..L, templates or sets outside 1..1024; as check_files() on the source.
Mimicry mimic(const ModelFiles& source, const MimicryOptions&);

}  // namespace recast
