#pragma once
#include <ATen/core/Tensor.h>
#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>

#include <mutex>
#include <unordered_map>

#include "recast/model/backbone.h"
#include "recast/model/model_files.h"

namespace recast {

/// A value made at first use, also when that use is inside inference mode: what is made must serve training later.
template <class Make>
auto make_lasting(const Make& make) {
  const c10::InferenceMode off(false);
  const c10::AutoGradMode no_grad(false);
  return make();
}

/// A parameter that enters no product, and its slot; both null where the architecture has none.
struct Vector {
  const Slot* slot = nullptr;
  at::Tensor own;
};

/// The effective value of a vector slot in a dtype; undefined where there is none.
at::Tensor value(const Vector& vector, at::ScalarType dtype, Route& route);

/// The slots of a backbone with its own numbers, the same for every kind of network: dense ones are shared with the
/// files, those that a bank covers are rebuilt at first use. Threads: all calls in parallel.
class SlotWeights {
 public:
  /// `files` must have passed check_files(). All tensors are moved to `device`.
  SlotWeights(Anatomy anatomy, const ModelFiles& files, at::Device device);

  const Anatomy& anatomy() const { return anatomy_; }
  /// As Backbone::weight().
  at::Tensor weight(const Slot& slot) const;
  /// A frozen weight is cast to bf16 once and kept; one that a plug-in made, or that is made of a bank, is returned as
  /// it is.
  at::Tensor cast(const Slot& slot, const at::Tensor& weight, at::ScalarType dtype) const;
  Vector vector(const std::string& name) const;

 private:
  struct Weight {
    at::Tensor own;  // filled by `once` where a bank covers the slot
    at::Tensor bf16;
    std::once_flag once, bf16_once;
  };

  void cover(const ModelFiles& files, at::Device device);
  void take(const ModelFiles& files, at::Device device);

  Anatomy anatomy_;                                          // constant after construction
  mutable std::unordered_map<std::string, Weight> weights_;  // the map itself is constant
};

}  // namespace recast
