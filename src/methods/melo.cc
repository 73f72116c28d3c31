// MeLo. Zhu et al., "MeLo: Low-rank Adaptation is Better than Fine-tuning for Medical Image Diagnosis",
// arXiv:2311.08236. LoRA with the paper's choice of where and how much: q and v of every attention, r = 4, alpha = r.
// State    per slot and part as of LoRA: 4 r (in + out) bytes; ViT-S/16 73,728 numbers.
#include <algorithm>

#include "recast/method/registry.h"

namespace recast {
namespace {

struct MeloOptions {
  std::int64_t rank = 4;
  double alpha = 4;
};

constexpr std::string_view kTargets = "q+v";

/// LoRA's plug-in computes, under MeLo's name: a backbone without attention is refused as MeLo's.
class Melo final : public Method {
 public:
  explicit Melo(std::unique_ptr<const Method> lora) : lora_(std::move(lora)) {}

  Roles roles() const override { return lora_->roles(); }
  std::vector<std::string> slots(const Anatomy& anatomy) const override {
    const auto attends = [](const Slot& slot) {
      return std::any_of(slot.parts.begin(), slot.parts.end(), [](const Part& part) { return part.name == "q"; });
    };
    if (std::none_of(anatomy.slots.begin(), anatomy.slots.end(), attends)) return {};
    return lora_->slots(anatomy);
  }
  void begin_task(Context& context) const override { lora_->begin_task(context); }

 private:
  std::unique_ptr<const Method> lora_;
};

/// LoRA is looked up when a recipe asks, when all are registered.
MethodInfo melo() {
  OptionTable<MeloOptions> table;
  table.add("rank", &MeloOptions::rank, in_range(1, 256), "inner width r");
  table.add("alpha", &MeloOptions::alpha, positive(), "the update is scaled by alpha / r");
  MethodInfo info;
  info.name = "melo";
  info.summary = "LoRA of rank 4 on q and v of every attention";
  info.paper = "arXiv:2311.08236";
  info.options = table.specs();
  info.families = {{.name = "a"}, {.name = "b"}, {.name = "alpha", .trains = false}};
  info.claims = {Claim::kIsolated, Claim::kNeutralStart};
  info.suggested_rate = 2e-3;
  info.peft_type = "LORA";
  info.make = [table](const OptionTexts& texts) {
    const MeloOptions options = table.parse("melo", texts);
    return std::make_unique<const Melo>(
        Registry::instance().find("lora").make({{"targets", std::string(kTargets)},
                                                {"rank", option_text(options.rank)},
                                                {"alpha", option_text(options.alpha)}}));
  };
  return info;
}

const bool kRegistered = Registry::add(melo());

}  // namespace
}  // namespace recast
