#include "recast/method/slot_weight.h"

#include "forward_pass.h"

namespace recast {

at::Tensor slot_weight(const Model& model, std::string_view slot, const Run& run) {
  const Batch none;
  return ForwardPass(model.backbone(), model.recipe(), model.numbers(), none, run).weight(slot);
}

}  // namespace recast
