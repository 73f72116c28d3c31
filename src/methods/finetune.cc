// Full fine-tuning: a dense copy of every parameter of the backbone trains. Running statistics of batch norms are none:
// they stay the backbone's.
// Idea     W_l is a copy of the backbone's own; the backbone itself is never written.
// State    w per weight and vector slot: 4 bytes a parameter, in the shared state (default: one network for all tasks,
//          so that learning a task changes the others, which follow the newest version) or in the task (scope=task).
#include "recast/method/model.h"

namespace recast {
namespace {

struct FinetuneOptions {
  std::string scope = "shared";
};

class Finetune final : public Method, public WeightRule {
 public:
  explicit Finetune(const FinetuneOptions& options)
      : scope_(options.scope == "task" ? Scope::kTask : Scope::kShared),
        family_(options.scope == "task" ? "own" : "w") {}

  Stage stage() const override { return Stage::kSource; }

  std::vector<std::string> slots(const Anatomy& anatomy) const override {
    std::vector<std::string> names;
    for (const Slot& slot : anatomy.slots)
      if ((slot.kind == SlotKind::kWeight || slot.kind == SlotKind::kVector) && !slot.statistic)
        names.push_back(slot.name);
    return names;
  }

  void begin_task(Context& context) const override {
    const State dense = context.model("backbone").weights();
    for (const std::string& slot : slots(context.anatomy())) {
      const std::string name = number_name(family_, slot);
      if (!context.own(scope_).has(name)) context.create(name, dense.tensor(slot).clone());
    }
  }

  at::Tensor weight(const Slot&, const at::Tensor&, const View& numbers, Pass&) const override {
    return numbers(family_);
  }

 private:
  Scope scope_;
  std::string family_;
};

const bool kRegistered = describe<Finetune, FinetuneOptions>("finetune")
                             .summary("every parameter of the backbone trains, in a copy")
                             .paper("-")
                             .families({{.name = "w", .scope = Scope::kShared}, {.name = "own", .scope = Scope::kTask}})
                             .claims({Claim::kNeutralStart})
                             .suggested_rate(5e-5)
                             .option("scope", &FinetuneOptions::scope, one_of({"shared", "task"}),
                                     "shared: one network for all tasks; task: a copy of its own for this task")
                             .add();

}  // namespace
}  // namespace recast
