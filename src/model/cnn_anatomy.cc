#include "cnn.h"

namespace recast {
namespace {

/// Appends slots in the order in which the input meets them; that order is their depth.
class Builder {
 public:
  explicit Builder(double eps) : eps_(eps) {}

  Slot& add(const std::string& name, SlotKind kind, std::vector<std::int64_t> shape, const std::string& role) {
    Slot slot;
    slot.name = name;
    slot.kind = kind;
    slot.shape = std::move(shape);
    slot.depth = static_cast<int>(anatomy.slots.size());
    slot.role = role;
    return anatomy.slots.emplace_back(std::move(slot));
  }

  void add(const ConvPlan& conv) {
    add(conv.slot, SlotKind::kWeight, conv.shape(), conv.role);
    add(conv.norm, SlotKind::kNorm, {conv.out}, conv.norm_role).eps = eps_;
    for (const char* parameter : {".weight", ".bias"})
      add(conv.norm + parameter, SlotKind::kVector, {conv.out}, conv.norm_role + parameter);
    for (const char* statistic : {".running_mean", ".running_var"})
      add(conv.norm + statistic, SlotKind::kVector, {conv.out}, conv.norm_role + statistic).statistic = true;
  }

  void add(const BlockPlan& block) {
    add(block.slot, SlotKind::kActivation, {block.channels}, block.stage);
    for (const ConvPlan& conv : block.convs) add(conv);
    if (block.projection) add(*block.projection);
    couple(block);
  }

  Anatomy anatomy;

 private:
  /// What one convolution gives, the next one takes. A depthwise convolution keeps its channels apart, so the rows on
  /// both of its sides are one coupling.
  void couple(const BlockPlan& block) {
    std::vector<std::string> rows;
    for (std::size_t i = 0; i < block.convs.size(); ++i) {
      const ConvPlan& conv = block.convs[i];
      const bool depthwise = conv.groups > 1;
      if (!rows.empty() && !depthwise) {
        anatomy.couplings.push_back({"channels", conv.in, conv.in, rows, {conv.slot}});
        rows.clear();
      }
      // A separable block begins depthwise: its rows are the block's input, which others feed too.
      if (depthwise && i == 0) continue;
      rows.push_back(conv.slot);
    }
  }

  double eps_;
};

}  // namespace

Anatomy cnn_anatomy(const CnnConfig& cnn) {
  const CnnPlan plan = plan_of(cnn);
  Builder build(cnn.norm_eps);
  build.add(plan.stem);
  for (const BlockPlan& block : plan.blocks) build.add(block);
  if (plan.head) build.add(*plan.head);
  build.add("features", SlotKind::kFeature, {plan.features()}, "features");
  return std::move(build.anatomy);
}

TensorShapes backbone_tensors(const CnnConfig& cnn) {
  const CnnPlan plan = plan_of(cnn);
  TensorShapes shapes;
  for (const ConvPlan* conv : plan.convs()) {
    shapes[conv->slot + ".weight"] = conv->shape();
    for (const char* number : {".weight", ".bias", ".running_mean", ".running_var"})
      shapes[conv->norm + number] = {conv->out};
  }
  return shapes;
}

}  // namespace recast
