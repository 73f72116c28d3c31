#pragma once
#include <memory>
#include <optional>

#include "recast/model/backbone.h"
#include "recast/model/model_files.h"

namespace recast {

/// A convolution without bias and the batch norm after it.
struct ConvPlan {
  std::string slot, role;       ///< "layer1.0.conv1", "layer1.conv1"
  std::string norm, norm_role;  ///< "layer1.0.bn1", "layer1.bn1"
  std::int64_t in, out, kernel, stride, groups;
  bool activated;  ///< after the norm

  std::vector<std::int64_t> shape() const { return {out, in / groups, kernel, kernel}; }
};

/// A block: convolutions one after another, and what is added to their result.
struct BlockPlan {
  enum class Shortcut { kNone, kIdentity, kPad, kProjection };

  std::string slot, stage;  ///< "layer1.0", "layer1"
  std::vector<ConvPlan> convs;
  Shortcut shortcut;
  std::optional<ConvPlan> projection;  ///< of a kProjection
  std::int64_t in, channels, stride;
  bool activated;  ///< the sum
};

/// A CnnConfig written out: every convolution with its names. The one place that knows how they are called.
struct CnnPlan {
  ConvPlan stem;
  std::vector<BlockPlan> blocks;
  std::optional<ConvPlan> head;

  std::int64_t features() const { return head ? head->out : blocks.back().channels; }
  /// All convolutions in the order in which the input meets them, a block's projection last.
  std::vector<const ConvPlan*> convs() const;
};

/// `cnn` must have no fault.
CnnPlan plan_of(const CnnConfig& cnn);

/// By how much the sides shrink from the input to the pool: the least side of an input.
std::int64_t total_stride(const CnnConfig& cnn);

/// Slots and couplings, no bank filled in.
Anatomy cnn_anatomy(const CnnConfig& cnn);

/// `files` must have passed check_files(). All tensors are moved to `device`, those that are there are shared.
std::shared_ptr<const Backbone> make_cnn(const ModelFiles& files, at::Device device);

}  // namespace recast
