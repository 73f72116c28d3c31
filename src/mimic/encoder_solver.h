#pragma once
#include <array>
#include <vector>

#include "descent.h"
#include "recast/mimic/mimicry.h"

namespace recast {

/// A group's encoder: flattened weight -> 8 -> 8 -> K n coefficients, LeakyReLU (slope 0.01) after the first two.
class Encoder {
 public:
  struct Layer {
    at::Tensor weight, bias;  ///< [out, in] and [out]
  };
  explicit Encoder(std::array<Layer, 3> layers) : layers_(std::move(layers)) {}
  /// As PyTorch initialises nn.Linear: uniform within 1 / sqrt(in), weight and bias.
  Encoder(const Key& key, std::int64_t elements, std::int64_t outputs);

  /// Weights [L, P] to [L, K n]; what gradients() needs is remembered.
  at::Tensor encode(const at::Tensor& weights);
  /// Of params(), in their order, given the gradient of the last encode()'s result.
  std::vector<at::Tensor> gradients(const at::Tensor& of_output) const;
  /// weight and bias of each layer.
  std::vector<at::Tensor> params() const;

 private:
  std::array<Layer, 3> layers_;
  std::array<at::Tensor, 3> inputs_;  // of each layer
  std::array<at::Tensor, 2> before_;  // what the LeakyReLUs were given
};

/// The paper's second solver, its "VAE" (RECAST, arXiv:2411.16870, section 3.2): each group's coefficients come out of
/// an encoder that reads the group's weights and is trained jointly with the bank; once trained, it is thrown away.
/// SmoothL1, RMSprop at 2e-3 falling to 0 by a cosine over 2500 steps; templates start Kaiming-normal; the best step is
/// kept. Groups have nothing in common and are solved one after another.
class EncoderSolver final : public MimicrySolver {
 public:
  std::vector<BankSolution> solve(std::span<const SolverGroup> groups, const SolverSettings& settings) const override;
};

}  // namespace recast
