#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace recast {

/// What a plug-in may act on. kWeight: a matrix or a kernel that enters a product. kVector: any other number (bias,
/// gain, layer scale, tokens, positions, running statistics). kParam: another plug-in's own tensor, named
/// "plug.family@slot". Activations are [B, T, D] in a vision transformer, [B, C, H, W] in a convolutional network,
/// features [B, D] in both.
enum class SlotKind { kWeight, kVector, kActivation, kNorm, kFeature, kHead, kParam };

/// A run of rows of a fused weight: q, k and v of an attention's input projection.
struct Part {
  std::string name;
  std::int64_t begin, end;
};

/// A named place in a backbone where a plug-in may act.
struct Slot {
  std::string name;  ///< "blocks.3.attn.qkv"
  SlotKind kind;
  std::vector<std::int64_t> shape;  ///< of the weight or vector; [width] or [channels] of what an activation, norm or
                                    ///< feature slot gives. A convolution's weight is [out, in / groups, kh, kw]
  int depth = 0;                    ///< position from input to output: index in Anatomy::slots
  std::string role;                 ///< the same for slots that do the same work at other depths: "attn.qkv"; with the
                                    ///< stage in a convolutional network: "layer1.conv1", "blocks.2.conv_dw"
  double eps = 0;                   ///< norm slots only: what is added to the variance
  bool statistic = false;           ///< a batch norm's running mean or variance: measured, not moved by a gradient
  std::vector<Part> parts;          ///< fused weights only
  std::int64_t unit = 0;            ///< rows of one attention head in a part (columns for "attn.proj"), else 0
  int group = -1;                   ///< index of its bank, -1 if none covers it
  at::Tensor bank;                  ///< templates [n, shape...], frozen; undefined if group is -1
  at::Tensor coefficients;          ///< [K, n] fp32, those that give the backbone's own weight back
};

/// Width-wise couplings between slots: unit u of every tensor of a coupling feeds unit u of the others (what structured
/// pruning and structured tuning must move together). A unit is width / units rows or columns. Of a fused slot the rows
/// are those of part v ("attention": heads of v in attn.qkv feed the same columns of attn.proj). Columns of a kernel
/// are its input channels; a depthwise kernel is coupled by its rows.
struct Coupling {
  std::string kind;
  std::int64_t width, units;
  std::vector<std::string> rows_of, columns_of;
};

/// All slots of a backbone in depth order, built from the architecture's config.
struct Anatomy {
  std::vector<Slot> slots;
  std::vector<Coupling> couplings;

  const Slot* find(std::string_view name) const;  ///< null if there is none
  const Slot& at(std::string_view name) const;    ///< throws kNotFound naming the nearest
};

}  // namespace recast
