#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

namespace recast {

/// Self-attention of H heads: qkv [B, T, 3 D], the rows of q, k and v one after another and the heads' within them, to
/// softmax(q k^T / sqrt(D / H)) v as [B, T, D]. Differentiable as often as wanted; an image's result does not depend on
/// the others.
/// On the CPU, in fp32 and bf16, it goes head by head, so that scores never leave a core's cache and none are kept for
/// backward, which makes them again.
at::Tensor self_attention(const at::Tensor& qkv, std::int64_t heads);

}  // namespace recast
