#include "recast/method/bank_sum.h"

#include "forward_pass.h"

namespace recast {
namespace {

/// The one rule of a slot as a sum; null where no rule acts.
const Plug* only_sum(const Composition& recipe, const Slot& slot) {
  const auto& rules = recipe.weight_rules(slot.name);
  if (rules.empty()) return nullptr;
  for (const Plug* rule : rules)
    if (!dynamic_cast<const BankCombination*>(rule->method.get()) || !slot.bank.defined())
      fail(Code::kUnsupported, "[{}] what it makes of {} is no sum of templates with coefficients", rule->alias(),
           slot.name);
  if (rules.size() > 1)
    fail(Code::kUnsupported, "[{}] {} acts on {} as well, which is then no sum of templates with coefficients",
         rules[0]->alias(), rules[1]->alias(), slot.name);
  return rules[0];
}

}  // namespace

BankSums bank_sums(const Model& model) {
  BankSums sums;
  const Batch none;
  ForwardPass pass(model.backbone(), model.recipe(), model.numbers(), none, {});
  for (const Slot& slot : model.backbone().anatomy().slots) {
    if (slot.kind != SlotKind::kWeight && slot.kind != SlotKind::kVector) continue;
    const Plug* plug = only_sum(model.recipe(), slot);
    if (plug == nullptr) continue;
    const View view(model.numbers(), plug->alias(), plug->info->families, slot.name, &pass);
    sums[slot.name] = dynamic_cast<const BankCombination&>(*plug->method).combination(slot, view);
  }
  return sums;
}

}  // namespace recast
