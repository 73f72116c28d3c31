#include "recast/method/contract.h"

namespace recast {

Roles Method::roles() const {
  Roles roles;
  roles.weight = dynamic_cast<const WeightRule*>(this);
  roles.branch = dynamic_cast<const Branch*>(this);
  roles.head = dynamic_cast<const Head*>(this);
  roles.loss = dynamic_cast<const LossTerm*>(this);
  roles.update = dynamic_cast<const UpdateRule*>(this);
  roles.batch = dynamic_cast<const BatchRule*>(this);
  return roles;
}

}  // namespace recast
