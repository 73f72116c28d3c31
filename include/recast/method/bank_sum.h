#pragma once
#include "recast/method/model.h"
#include "recast/model/blockwise_sum.h"

namespace recast {

/// What a weight rule may be as well: one of stage kSource whose weight is such a sum at each of its slots. Its
/// weight() and combination() must agree.
class BankCombination {
 public:
  virtual ~BankCombination() = default;
  virtual BankSum combination(const Slot& slot, const View& numbers) const = 0;
};

/// The sums that make the weights of a model, by slot: empty where no rule acts.
/// Throws kUnsupported, the plug-in and the slot named: a rule that is no such sum, or more than one on a slot.
BankSums bank_sums(const Model& model);

}  // namespace recast
