#include <fmt/format.h>

#include "cnn.h"

namespace recast {
namespace {

/// Writes the blocks of one stage after another, the channels of each being the input of the next.
class Planner {
 public:
  explicit Planner(const CnnConfig& cnn) : cnn_(cnn), channels_(cnn.stem_channels) {}

  std::vector<BlockPlan> blocks() {
    std::vector<BlockPlan> all;
    for (std::size_t s = 0; s < cnn_.stages.size(); ++s) {
      const CnnStage& stage = cnn_.stages[s];
      const bool resnet = stage.block == "basic" || stage.block == "bottleneck";
      const std::string name = resnet ? fmt::format("layer{}", s + 1) : fmt::format("blocks.{}", s);
      for (std::int64_t b = 0; b < stage.blocks; ++b) {
        BlockPlan block = start(name, b, stage);
        if (resnet) {
          plan_resnet(block, stage);
        } else {
          plan_mobile(block, stage);
        }
        channels_ = stage.channels;
        all.push_back(std::move(block));
      }
    }
    return all;
  }

 private:
  BlockPlan start(const std::string& stage_name, std::int64_t b, const CnnStage& stage) const {
    BlockPlan block;
    block.slot = fmt::format("{}.{}", stage_name, b);
    block.stage = stage_name;
    block.in = channels_;
    block.channels = stage.channels;
    block.stride = b == 0 ? stage.stride : 1;
    return block;
  }

  static ConvPlan conv(const BlockPlan& block, const char* name, const char* norm, std::int64_t in, std::int64_t out,
                       std::int64_t kernel) {
    return {block.slot + "." + name,
            block.stage + "." + name,
            block.slot + "." + norm,
            block.stage + "." + norm,
            in,
            out,
            kernel,
            1,
            1,
            true};
  }

  void plan_resnet(BlockPlan& block, const CnnStage& stage) const {
    const std::int64_t inner = stage.channels / stage.expansion;
    if (stage.block == "basic") {
      block.convs = {conv(block, "conv1", "bn1", block.in, inner, stage.kernel),
                     conv(block, "conv2", "bn2", inner, stage.channels, stage.kernel)};
      block.convs[0].stride = block.stride;
    } else {
      block.convs = {conv(block, "conv1", "bn1", block.in, inner, 1),
                     conv(block, "conv2", "bn2", inner, inner, stage.kernel),
                     conv(block, "conv3", "bn3", inner, stage.channels, 1)};
      block.convs[1].stride = block.stride;
    }
    block.convs.back().activated = false;
    block.activated = true;
    block.shortcut = BlockPlan::Shortcut::kIdentity;
    if (block.in == block.channels && block.stride == 1) return;
    if (cnn_.shortcut == "pad") {
      block.shortcut = BlockPlan::Shortcut::kPad;
      return;
    }
    block.shortcut = BlockPlan::Shortcut::kProjection;
    block.projection = conv(block, "downsample", "downsample_bn", block.in, block.channels, 1);
    block.projection->stride = block.stride;
    block.projection->activated = false;
  }

  void plan_mobile(BlockPlan& block, const CnnStage& stage) const {
    const bool inverted = stage.block == "inverted";
    const std::int64_t inner = inverted ? block.in * stage.expansion : block.in;
    if (inverted) block.convs.push_back(conv(block, "conv_pw", "bn1", block.in, inner, 1));
    ConvPlan depthwise = conv(block, "conv_dw", inverted ? "bn2" : "bn1", inner, inner, stage.kernel);
    depthwise.groups = inner;
    depthwise.stride = block.stride;
    block.convs.push_back(depthwise);
    block.convs.push_back(
        conv(block, inverted ? "conv_pwl" : "conv_pw", inverted ? "bn3" : "bn2", inner, block.channels, 1));
    block.convs.back().activated = false;
    block.activated = false;
    const bool same_shape = block.in == block.channels && block.stride == 1;
    block.shortcut = same_shape ? BlockPlan::Shortcut::kIdentity : BlockPlan::Shortcut::kNone;
  }

  const CnnConfig& cnn_;
  std::int64_t channels_;
};

}  // namespace

std::vector<const ConvPlan*> CnnPlan::convs() const {
  std::vector<const ConvPlan*> all = {&stem};
  for (const BlockPlan& block : blocks) {
    for (const ConvPlan& conv : block.convs) all.push_back(&conv);
    if (block.projection) all.push_back(&*block.projection);
  }
  if (head) all.push_back(&*head);
  return all;
}

CnnPlan plan_of(const CnnConfig& cnn) {
  const std::string& first = cnn.stages.front().block;
  const char* stem = first == "basic" || first == "bottleneck" ? "conv1" : "conv_stem";
  CnnPlan plan{
      {stem, stem, "bn1", "bn1", 3, cnn.stem_channels, cnn.stem_kernel, cnn.stem_stride, 1, true}, {}, std::nullopt};
  plan.blocks = Planner(cnn).blocks();
  if (cnn.head_channels > 0) {
    plan.head = {"conv_head", "conv_head", "bn2", "bn2", plan.blocks.back().channels, cnn.head_channels, 1, 1, 1, true};
  }
  return plan;
}

std::int64_t total_stride(const CnnConfig& cnn) {
  std::int64_t stride = cnn.stem_stride * (cnn.stem_pool ? 2 : 1);
  for (const CnnStage& stage : cnn.stages) stride *= stage.stride;
  return stride;
}

}  // namespace recast
