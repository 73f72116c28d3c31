// MeLo. Zhu et al., "MeLo: Low-rank Adaptation is Better than Fine-tuning for Medical Image Diagnosis",
// arXiv:2311.08236. LoRA with the paper's choice of where and how much: q and v of every attention, r = 4, alpha = r.
// State    per slot and part as of LoRA: 4 r (in + out) bytes; ViT-S/16 73,728 numbers.
#include "recast/method/registry.h"

namespace recast {
namespace {

struct MeloOptions {
  std::int64_t rank = 4;
  double alpha = 4;
};

/// LoRA's plug-in computes; it is looked up when a recipe asks, when all are registered.
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
    return Registry::instance().find("lora").make(
        {{"targets", "q+v"}, {"rank", option_text(options.rank)}, {"alpha", option_text(options.alpha)}});
  };
  return info;
}

const bool kRegistered = Registry::add(melo());

}  // namespace
}  // namespace recast
