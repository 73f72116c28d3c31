// Norm tuning: gains and biases of the normalisation layers train, nothing else of the backbone. Frankle, Schwab and
// Morcos, ICLR 2021, arXiv:2003.00152 (batch norm); Basu et al., AAAI 2024, arXiv:2304.01917 (LayerNorm).
// Idea     g' = g (1 + u), b' = b + v. A number of u and v serves `block` channels, 1 as published.
// State    per norm u and v [ceil(D / block)] fp32. ViT-S: 25 norms, 19,200 numbers; 300 in blocks of 64.
// Departs  the gain by its ratio, which is what training from scratch at gain 1 does; blocks are ours.
#include <ATen/ATen.h>

#include "recast/method/registry.h"

namespace recast {
namespace {

struct NormTuningOptions {
  std::string which = "both";
  std::int64_t block = 1;
};

class NormTuning final : public Method, public WeightRule {
 public:
  explicit NormTuning(NormTuningOptions options) : options_(std::move(options)) {}

  Stage stage() const override { return Stage::kAdd; }

  std::vector<std::string> slots(const Anatomy& anatomy) const override {
    std::vector<std::string> names;
    for (const Slot& slot : anatomy.slots) {
      if (slot.kind != SlotKind::kNorm) continue;
      for (const char* part : {kGain, kBias})
        if (wants(part) && anatomy.find(slot.name + part)) names.push_back(slot.name + part);
    }
    return names;
  }

  void begin_task(Context& context) const override {
    for (const std::string& name : slots(context.anatomy())) {
      const std::int64_t channels = context.anatomy().at(name).shape[0];
      context.create(number_name(name.ends_with(kGain) ? "gain" : "bias", name),
                     at::zeros({(channels + options_.block - 1) / options_.block}));
    }
  }

  at::Tensor weight(const Slot& slot, const at::Tensor& w, const View& numbers, Pass&) const override {
    const bool gain = slot.name.ends_with(kGain);
    at::Tensor move = numbers(gain ? "gain" : "bias");
    if (options_.block > 1) move = move.repeat_interleave(options_.block).slice(0, 0, w.size(0));
    return gain ? w * (1 + move) : w + move;
  }

 private:
  static constexpr const char *kGain = ".weight", *kBias = ".bias";

  bool wants(std::string_view part) const {
    return options_.which == "both" || (options_.which == "gain") == (part == kGain);
  }

  NormTuningOptions options_;
};

const bool kRegistered =
    describe<NormTuning, NormTuningOptions>("norm-tuning")
        .summary("gains and biases of the normalisation layers train")
        .paper("arXiv:2003.00152")
        .families({{.name = "gain"}, {.name = "bias", .decay_scale = 0}})
        .claims({Claim::kIsolated, Claim::kNeutralStart})
        .suggested_rate(5e-3)
        .option("which", &NormTuningOptions::which, one_of({"both", "gain", "bias"}), "what trains")
        .option("block", &NormTuningOptions::block, in_range(1, 1e6), "channels that share a number")
        .add();

}  // namespace
}  // namespace recast
