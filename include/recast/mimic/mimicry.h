#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "recast/model/model_files.h"

namespace recast {

struct MimicryOptions {
  /// attn (qkv) | mlp (fc1, fc2) | attn+mlp | all (qkv, proj, fc1, fc2) of a vision transformer; conv of a
  /// convolutional network: the convolutions of every block but a stage's first, by stage and place in the block.
  /// Empty: attn or conv.
  std::string target = {};
  /// Runs of consecutive layers; each role of a run has a bank of its own. 0: 6; for conv 1, a bank a stage and place.
  std::int64_t groups = 0;
  /// n per bank. 0: 2; for conv as many as the bank has slots, which is exact.
  std::int64_t templates = 0;
  std::int64_t sets = 2;  ///< K coefficient vectors a slot
  std::string solver = "closed";
  std::uint64_t seed = 42;
  std::int64_t steps = 0;  ///< of the solvers that take steps; 0: the paper's
  double rate = 0;         ///< their learning rate; 0: the paper's
};

/// How well a slot's weight is rebuilt: ||W - W'||_F / ||W||_F and cosine, both in double.
struct SlotFidelity {
  std::string slot;
  double relative_error, cosine;
  double norm = 0;  ///< ||W||_F
};
/// Of every slot that a bank of `mimicked` covers, in depth order.
std::vector<SlotFidelity> measure_fidelity(const Backbone& original, const Backbone& mimicked);
/// Of all slots together: sqrt(sum ||W - W'||^2 / sum ||W||^2).
double relative_error(const std::vector<SlotFidelity>& slots);

struct Mimicry {
  ModelFiles files;
  std::vector<SlotFidelity> fidelity;  ///< in depth order
  std::int64_t coefficients;           ///< numbers a task trains at grain slot: K * n, summed over slots
  double seconds = 0;                  ///< that the solver took, without reading, checking and measuring
};

/// How a solver is run, for those that take many steps.
struct SolverSettings {
  std::int64_t steps = 0;                                                    ///< 0: the paper's
  double rate = 0;                                                           ///< 0: the paper's
  const std::atomic<bool>* stop = nullptr;                                   ///< set: the solver ends with kCancelled
  std::function<void(std::int64_t done, std::int64_t total)> progress = {};  ///< after each step, on the calling thread
};

/// One group of L slots to find a bank for.
struct SolverGroup {
  std::string name;                 ///< of the bank
  std::vector<at::Tensor> weights;  ///< of L slots, all of one shape, fp32, CPU; read
  std::int64_t templates = 2, sets = 2;
  double loss_factor = 2;   ///< weight of each slot in the loss of `gradient`
  std::uint64_t seed = 42;  ///< of all that is drawn for this group
};

/// One group's solution, fp32: templates [n, shape...] and the coefficients of each slot [L, K, n].
struct BankSolution {
  at::Tensor templates, coefficients;
};

/// A way to find banks. Const; calls may run in parallel.
class MimicrySolver {
 public:
  virtual ~MimicrySolver() = default;
  /// A solution for each group. All groups come at once, since a solver may train them together.
  /// Throws  kCancelled; kInvalidArgument: it diverged, with the step and what helps, or takes no steps or rate.
  virtual std::vector<BankSolution> solve(std::span<const SolverGroup> groups,
                                          const SolverSettings& settings) const = 0;
};
/// `closed`: n >= L is exact (T_i = W_i, coefficients one-hot; templates beyond L are random directions as large as the
/// group's weights, drawn from the seed, with coefficient 0), else truncated SVD through the Gram matrix in double.
/// `gradient`, `encoder`: the paper's own, thousands of optimiser steps; see their headers in src/mimic.
/// Throws kInvalidArgument for an unknown name, with the nearest.
const MimicrySolver& mimicry_solver(const std::string& name);
std::vector<std::string> mimicry_solver_names();

/// The options as mimic() takes them for a network: what was left open is the target's default, but for `templates` of
/// conv, which stay 0 for "as many as slots". Throws kInvalidArgument on an unknown target, with the nearest, or one
/// that the network does not have.
MimicryOptions resolved(MimicryOptions options, const ModelConfig& config);

/// Neural Mimicry (RECAST, arXiv:2411.16870, section 3.2): turns the weights of the target slots into banks. With L
/// slots of a role, bank "ROLE.g" of G takes slots g L / G to (g + 1) L / G, so runs differ by at most one in length.
/// The source may itself be mimicked: its dense weights are rebuilt first. `stop` and `progress` are those of
/// SolverSettings. Throws as resolved(); kInvalidArgument on an unknown solver, groups outside 1..L, templates or sets
/// outside 1..1024, steps or rate out of range; as MimicrySolver::solve(); as check_files() on the source.
Mimicry mimic(const ModelFiles& source, const MimicryOptions&, const std::atomic<bool>* stop = nullptr,
              const std::function<void(std::int64_t done, std::int64_t total)>& progress = {});

}  // namespace recast
