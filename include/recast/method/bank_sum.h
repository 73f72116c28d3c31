#pragma once
#include <map>
#include <string>

#include "recast/method/model.h"
#include "recast/model/blockwise_sum.h"

namespace recast {

/// A slot's weight as blocks that are linear combinations of its bank's templates: blockwise_sum(bank, coefficients,
/// blocks). Where weights are made in another program that is all it needs to be handed.
struct BankSum {
  at::Tensor coefficients;  ///< [B, n] fp32
  Blocks blocks;
};

/// What a weight rule may be as well: one of stage kSource whose weight is such a sum at each of its slots. Its
/// weight() and combination() must agree.
class BankCombination {
 public:
  virtual ~BankCombination() = default;
  virtual BankSum combination(const Slot& slot, const View& numbers) const = 0;
};

/// The sums that make the weights of a model, by slot: empty where no rule acts.
/// Throws kUnsupported, the plug-in and the slot named: a rule that is no such sum, or more than one on a slot.
std::map<std::string, BankSum, std::less<>> bank_sums(const Model& model);

}  // namespace recast
