#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>

namespace recast {

/// How a weight is cut: runs of `length` rows, or of columns (dimension 1, whatever follows stays whole: a kernel
/// [out, in, kh, kw] is cut along its output or input channels). The last block may be shorter.
struct Blocks {
  std::int64_t length = 1;
  bool of_columns = false;

  /// B. Throws kShapeMismatch where the shape has no such dimension, kInvalidArgument for a length below 1.
  std::int64_t count(at::IntArrayRef shape) const;
};

/// W[b] = sum_i c[b, i] T_i[b]: templates T [n, shape...], coefficients c [B, n], both fp32 or both fp64, on one
/// device; returns a new tensor [shape...]. Read only, kept by autograd (the templates as they are: not to be written
/// before backward). Differentiable in the coefficients any number of times, in the templates not at all. Templates of
/// coefficient 0 are left out of a block, so one-hot coefficients give a template's own bits. On the CPU one pass reads
/// the templates and writes W, and one pass reads dL/dW and the templates; results do not depend on the number of
/// threads. Threads: calls may run in parallel. Throws kShapeMismatch.
at::Tensor blockwise_sum(const at::Tensor& templates, const at::Tensor& coefficients, const Blocks& blocks);

/// A slot's weight as blocks that are linear combinations of its bank's templates: blockwise_sum(bank, coefficients,
/// blocks). Where weights are made in another way that is all it needs to be handed.
struct BankSum {
  at::Tensor coefficients;  ///< [B, n] fp32
  Blocks blocks;
};
/// By slot.
using BankSums = std::map<std::string, BankSum, std::less<>>;

}  // namespace recast
