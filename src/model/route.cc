#include "recast/model/backbone.h"

namespace recast {

at::Tensor PlainRoute::product(const Slot& slot, const at::Tensor& x, const Apply& apply) {
  return apply(x, backbone_.weight(slot));
}

}  // namespace recast
