#pragma once
#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "recast/format/tensor_file.h"
#include "recast/method/compose.h"
#include "recast/method/model.h"
#include "recast/model/model_files.h"
#include "recast/run/linear_head.h"
#include "recast/store/task_record.h"

namespace recast {

/// The frozen half of a network that another library runs (timm's, in Python) with weights that our plug-ins make:
/// files, backbone, composed recipe. The numbers are the caller's and go by "PLUG.family@slot#key". Whatever plug-ins
/// make weights can be used; those that stand beside activations, or need images before they begin, cannot. Threads all
/// calls may run in parallel.    Copies share everything.
class Adaptation {
 public:
  /// `plugs`: "NAME[:key=value,...]"; empty: those that claim kPreferred and whose needs the files meet. `seed`: of
  /// what they draw, the same as in learn(). Throws  as make_backbone() and compose(); kUnsupported: a plug-in that
  /// acts on more than weights, keeps numbers that
  ///         belong to no weight or to no single task, or needs a run to begin.
  Adaptation(ModelFiles files, const std::vector<std::string>& plugs, std::uint64_t seed);

  const ModelFiles& files() const { return *files_; }
  const std::string& fingerprint() const { return fingerprint_; }
  std::int64_t feature_width() const { return backbone_->feature_width(); }
  /// As compose() resolved them, the head included.
  std::vector<std::string> plugs() const;

  /// One slot whose weight is made, and the numbers that it is made of.
  struct MadeSlot {
    std::string name;      ///< "blocks.0.attn.qkv"
    bool vector = false;   ///< a gain or bias, whose name says which: "blocks.0.norm1.weight"
    NamedTensors numbers;  ///< those that a task begins with: not to be written
    std::map<std::string, bool, std::less<>> trains;
  };
  /// In depth order.
  const std::vector<MadeSlot>& slots() const { return slots_; }

  /// The weight of a slot from such numbers, fp32, on their device; gradients flow into them. All numbers of the slot,
  /// of any floating dtype, all on one device.
  /// Throws  kNotFound: no such slot, or a number missing;  kShapeMismatch: numbers that make no weight of its shape.
  at::Tensor weight(const std::string& slot, const NamedTensors& numbers) const;

  /// Features [B, D] of normalised pixels [B, 3, H, W] by our engine with these numbers, all slots'; fp32, on the CPU.
  at::Tensor features(const at::Tensor& pixels, const NamedTensors& numbers) const;

  /// What is stored of a task with these numbers (all slots') and this classifier: plug-ins end it as they end a task
  /// that was learned, so options like `bits` hold. Nothing that is passed is changed.
  /// Throws  kShapeMismatch: the head's width or rows do not fit;  kInvalidArgument as encode_task().
  TaskRecord record(const std::string& task, const std::vector<std::string>& labels, const NamedTensors& numbers,
                    const LinearHead& head) const;

  /// Throws kShapeMismatch naming the first frozen tensor that `now` has otherwise; weights that plug-ins make may
  /// differ.
  void require_frozen(const ModelFiles& now) const;

  /// A stored task as numbers of this network.
  struct Stored {
    NamedTensors numbers;
    LinearHead head;
  };
  /// Throws  kShapeMismatch: of another backbone, or made by other plug-ins;  kUnsupported: its head is not linear.
  Stored stored(const TaskRecord& record) const;

 private:
  std::shared_ptr<const Backbone> backbone_on(at::Device device) const;
  const MadeSlot& slot(const std::string& name) const;
  void find_slots(std::uint64_t seed);
  Numbers numbers_of(const NamedTensors& numbers) const;

  std::shared_ptr<const ModelFiles> files_;
  std::string fingerprint_;
  std::shared_ptr<const Backbone> backbone_;
  std::shared_ptr<const Composition> recipe_;
  std::vector<MadeSlot> slots_;
  struct Elsewhere {
    std::mutex mutex;
    std::map<std::string, std::shared_ptr<const Backbone>> backbones;  ///< by device
  };
  std::shared_ptr<Elsewhere> elsewhere_ = std::make_shared<Elsewhere>();
};

}  // namespace recast
