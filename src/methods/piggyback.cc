// Piggyback. Mallya, Davis and Lazebnik, ECCV 2018, arXiv:1801.06519, section 3, and the authors' code.
// Idea     W' = W * m, a binary mask m over each weight. While learning m = [score > t] with a real-valued score per
//          weight, trained straight through the step function: dL/dscore = dL/dW' * W.
// State    per slot bits, uint8, eight weights a byte, the first in the lowest bit: ceil(weights / 8) bytes. ResNet-34:
//          2.7 MB, ViT-S: 2.7 MB. The scores live in the run and are not stored.
// Start    every score 2 t (the paper's 1e-2 at t = 5e-3): all weights kept, the backbone bit for bit.
// Departs  the paper masks every layer but the classifier, as target=all does; target=body spares the first one (a
//          ViT's patch embedding, a CNN's stem). A task that is learned further starts again from its bits (0 where a
//          weight is masked): its scores are gone. start=magnitude is ours: scores of 2 t on average that grow with the
//          size of the weight, so that few weights cross the threshold at a time, the smallest first. Scores that start
//          alike move alike under AdamW, and on few images cross it in masses, which the network does not survive.
#include <ATen/ATen.h>

#include "recast/method/model.h"

namespace recast {
namespace {

struct PiggybackOptions {
  std::string target = "all", start = "even";
  double threshold = 5e-3;
};

at::Tensor bit_values(at::Device device) {
  return at::tensor({1, 2, 4, 8, 16, 32, 64, 128}, at::TensorOptions(at::kInt)).to(device, at::kByte);
}

/// bool mask of any shape -> uint8 [ceil(numel / 8)].
at::Tensor pack(const at::Tensor& mask) {
  const std::int64_t bytes = (mask.numel() + 7) / 8;
  at::Tensor flat = at::zeros({bytes * 8}, mask.options().dtype(at::kByte));
  flat.slice(0, 0, mask.numel()).copy_(mask.flatten());
  return flat.view({bytes, 8}).mul_(bit_values(mask.device())).sum(1, false, at::kByte);
}

/// The other way: bool of a shape.
at::Tensor unpack(const at::Tensor& bits, at::IntArrayRef shape) {
  const at::Tensor flat = bits.unsqueeze(1).bitwise_and(bit_values(bits.device())).ne(0).flatten();
  return flat.slice(0, 0, c10::multiply_integers(shape)).view(shape);
}

class Piggyback final : public Method, public WeightRule {
 public:
  explicit Piggyback(PiggybackOptions options) : options_(std::move(options)) {}

  Stage stage() const override { return Stage::kTransform; }

  std::vector<std::string> slots(const Anatomy& anatomy) const override {
    std::vector<std::string> names;
    for (const Slot& slot : anatomy.slots)
      if (slot.kind == SlotKind::kWeight) names.push_back(slot.name);
    if (options_.target == "body" && !names.empty()) names.erase(names.begin());
    return names;
  }

  void begin_task(Context& context) const override {
    for (const std::string& name : slots(context.anatomy()))
      context.create(number_name("bits", name), pack(at::ones(context.anatomy().at(name).shape, at::kBool)));
    continue_task(context);
  }

  void continue_task(Context& context) const override {
    const Model backbone = context.model("backbone");
    for (const std::string& name : slots(context.anatomy())) {
      const at::Tensor& bits = context.own(Scope::kTask).tensor(number_name("bits", name));
      const std::string score = number_name("score", name);
      context.own(Scope::kRun).erase(score);
      const Slot& slot = context.anatomy().at(name);
      context.create(score, unpack(bits, slot.shape).to(at::kFloat) * first_score(slot, backbone.backbone()));
    }
  }

  void end_task(Context& context) const override {
    State& run = context.own(Scope::kRun);
    for (const std::string& name : slots(context.anatomy())) {
      const std::string score = number_name("score", name);
      context.own(Scope::kTask).set(number_name("bits", name), pack(run.tensor(score).detach().gt(options_.threshold)));
      run.erase(score);
    }
  }

  /// Weights masked, each slot's rounded up to whole bytes.
  std::optional<std::int64_t> learned_numbers(const State& task) const override { return 8 * task.bytes(); }

  at::Tensor weight(const Slot& slot, const at::Tensor& w, const View& numbers, Pass&) const override {
    if (!numbers.has("score")) return w * unpack(numbers("bits"), slot.shape).to(w.options());
    const at::Tensor score = numbers("score");
    // score - score is zero to the bit, and passes the mask's gradient on to the score.
    return w * (score.detach().gt(options_.threshold).to(w.options()) + (score - score.detach()));
  }

 private:
  /// Of a weight that is kept: 1.1 t and more.
  at::Tensor first_score(const Slot& slot, const Backbone& backbone) const {
    if (options_.start == "even") return at::full({}, 2 * options_.threshold);
    const at::Tensor size = backbone.weight(slot).abs();
    return (1.1 + 0.9 * size / size.mean().clamp_min(1e-30)) * options_.threshold;
  }

  PiggybackOptions options_;
};

const bool kRegistered = describe<Piggyback, PiggybackOptions>("piggyback")
                             .summary("binary mask over the backbone's weights, one bit each")
                             .paper("arXiv:1801.06519")
                             .families({{.name = "bits", .trains = false, .pool = Pool::kKeep, .dtype = at::kByte},
                                        {.name = "score", .scope = Scope::kRun, .decay_scale = 0}})
                             .claims({Claim::kIsolated, Claim::kNeutralStart})
                             .suggested_rate(1e-4)
                             .option("target", &PiggybackOptions::target, one_of({"all", "body"}),
                                     "all: every weight (the paper); body: all but the patch embedding or stem")
                             .option("start", &PiggybackOptions::start, one_of({"even", "magnitude"}),
                                     "first scores: all alike (the paper), or larger for larger weights")
                             .option("threshold", &PiggybackOptions::threshold, positive(),
                                     "score above which a weight is kept; even scores start at twice that")
                             .add();

}  // namespace
}  // namespace recast
