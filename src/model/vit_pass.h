#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "recast/model/backbone.h"
#include "recast/model/blockwise_sum.h"
#include "recast/model/config.h"

namespace recast {

class VitEngine;

/// The blocks and the last norm of a vision transformer with frozen weights, forward and backward written out: an image,
/// or a group of images of few tokens, stays in a core's own cache from the first block to the last, weights are packed
/// once, scores never leave that cache, and of a weight that is a sum of templates only <dL/dW, T_i> is made, never dL/dW:
///   with P_i = dY T_i, dX = sum_i c_i P_i is needed anyway, and dL/dc_i = <P_i, X>;
///   where blocks of rows have coefficients of their own, dL/dc_bi = <dY_b, X T_i[b]^T>.
/// Nothing below the first slot with trained coefficients has a backward pass, and where the features are the class
/// token's the last block runs on that token alone once its keys and values are made. Products are oneDNN's (brgemm,
/// through libtorch), in fp32 or bf16 with sums in fp32; the residual stream, norms, softmax and GELU are fp32; what
/// backward finds again is of the products' dtype, and GELU's slope is a byte beside bf16.
/// Threads: all calls in parallel; a call shares its groups out to threads. Results depend neither on the number of
/// threads nor on the other images of a batch.
class VitPass {
 public:
  struct Norm {
    at::Tensor gain, bias;  ///< [D] fp32
  };
  struct Matrix {
    const Slot* slot = nullptr;
    at::Tensor bias;  ///< [out] fp32, or undefined
  };
  struct Block {
    Norm norm1, norm2;
    Matrix qkv, proj, fc1, fc2;
    at::Tensor attn_scale, mlp_scale;  ///< [D] fp32, or undefined
  };
  /// The backbone's own weight of a slot, fp32 [out, in]; asked for once.
  using Weight = std::function<at::Tensor(const Slot&)>;
  /// The same features by operators that autograd knows.
  using Again = std::function<at::Tensor(const BankSums&)>;

  VitPass(const VitConfig& config, std::vector<Block> blocks, Norm norm, Weight weight);
  ~VitPass();

  /// Why there is no pass of this dtype for this network on this processor; empty if there is.
  static std::string why_not(const VitConfig& config, at::ScalarType dtype);

  /// tokens [B, T, D] fp32, contiguous, written over. `sums` are the weights of the slots that it names. Returns
  /// [B, feature width] fp32, differentiable in their coefficients; `again` is called, and kept by autograd, for a
  /// gradient that is to be differentiated itself.
  at::Tensor features(const at::Tensor& tokens, const BankSums& sums, at::ScalarType dtype, const Again& again) const;

 private:
  const std::shared_ptr<VitEngine> engine_;
};

}  // namespace recast
