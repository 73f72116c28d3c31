// RECAST. Tasnim, Plummer et al., ICLR 2025, arXiv:2411.16870, section 3.
// Idea     W_l = (1/K) sum_k sum_i c[l,k,i] T[g,i]: a slot's weight is a linear combination of its group's frozen
//          templates; a task trains the coefficients c and nothing else of the backbone.
// State    per slot c [K, B, n] fp32, B blocks of the grain (1 at grain slot): 4 K B n bytes. ViT-S/16, attn, six
//          groups of two, n = 2, K = 2: 48 numbers. Stored in 16 or 8 bits: what c adds to the backbone's own
//          coefficients as whole multiples of one `step` for all slots, 2 K B n or K B n bytes a slot and 8 for the
//          step.
// Departs  grain: beyond the paper, a block b of the slot may have coefficients of its own, W_l[b] = sum_i c[l,b,i]
//          T_i[b]. Blocks are runs of rows (output channels of a kernel); in attn.proj and mlp.fc2, whose inputs carry
//          the heads and units, runs of columns. A slot without the parts or heads that a grain asks for keeps one
//          block.
// Note     with K sets that start equal all sets get equal gradients and never part (tested), so K = 2 stores 48
//          numbers and moves 24 freely.
#include <ATen/ATen.h>

#include "recast/method/registry.h"
#include "recast/model/blockwise_sum.h"

namespace recast {
namespace {

struct RecastOptions {
  std::string grain = "slot";
  std::int64_t block = 64;
  std::string bits = "32";
  double mlp_rate = 1;
};

class Recast final : public Method, public WeightRule {
 public:
  explicit Recast(RecastOptions options) : options_(std::move(options)) {
    if (options_.block != RecastOptions{}.block && options_.grain != "block")
      fail(Code::kInvalidArgument, "[recast] block={} needs grain=block, got grain={}", options_.block, options_.grain);
  }

  Stage stage() const override { return Stage::kSource; }

  std::vector<std::string> slots(const Anatomy& anatomy) const override {
    std::vector<std::string> names;
    for (const Slot& slot : anatomy.slots)
      if (slot.bank.defined()) names.push_back(slot.name);
    return names;
  }

  void begin_task(Context& context) const override {
    for (const std::string& name : slots(context.anatomy())) {
      const Slot& slot = context.anatomy().at(name);
      const at::Tensor& start = slot.coefficients;
      const std::int64_t count = blocks(slot).count(slot.shape);
      context.create(number_name("c", name),
                     start.unsqueeze(1).expand({start.size(0), count, start.size(1)}).contiguous());
    }
  }

  at::Tensor weight(const Slot& slot, const at::Tensor&, const View& numbers, Pass&) const override {
    const auto stored = numbers.has("c") ? std::nullopt : decoded(slot, numbers.state(Scope::kTask));
    const at::Tensor c = stored ? numbers.with_rules("c", *stored) : numbers("c");
    return blockwise_sum(slot.bank, c.mean(0), blocks(slot));
  }

  double rate_scale(std::string_view, const Slot* slot) const override {
    return slot && slot->role.starts_with("mlp.") ? options_.mlp_rate : 1;
  }

  void end_task(Context& context) const override {
    if (options_.bits == "32") return;
    State& own = context.own(Scope::kTask);
    std::map<std::string, at::Tensor> moves;
    double largest = 0;
    for (const std::string& name : slots(context.anatomy())) {
      const std::string c = number_name("c", name);
      // What another plug-in's rule makes does not train, and is not stored.
      if (!own.has(c) || !own.tensor(c).requires_grad()) continue;
      const at::Tensor move = own.tensor(c).detach() - context.anatomy().at(name).coefficients.unsqueeze(1);
      largest = std::max(largest, move.abs().max().item<double>());
      moves[name] = move;
    }
    if (moves.empty()) return;
    const bool short_codes = options_.bits == "16";
    const double step = largest / (short_codes ? 32767 : 127);
    for (const auto& [name, move] : moves) {
      const at::Tensor multiples = step > 0 ? (move.to(at::kDouble) / step).round() : move;
      own.erase(number_name("c", name));
      own.set(number_name("c" + options_.bits, name), multiples.to(short_codes ? at::kShort : at::kChar));
    }
    own.set("step", step);
  }

  void continue_task(Context& context) const override {
    State& own = context.own(Scope::kTask);
    for (const std::string& name : slots(context.anatomy())) {
      const auto c = decoded(context.anatomy().at(name), own);
      if (!c) continue;
      for (const char* family : {"c", "c16", "c8"}) own.erase(number_name(family, name));
      context.create(number_name("c", name), *c);
    }
    own.erase("step");
  }

  std::optional<std::int64_t> learned_numbers(const State& task) const override {
    std::int64_t count = 0;
    for (const auto& [name, number] : task)
      if (const auto* tensor = std::get_if<at::Tensor>(&number)) count += tensor->numel();
    return count;
  }

 private:
  /// [K, B, n] of what end_task() stored, in whatever bits; nothing where it rounded nothing.
  static std::optional<at::Tensor> decoded(const Slot& slot, const State& own) {
    for (const char* family : {"c16", "c8"})
      if (const std::string name = number_name(family, slot.name); own.has(name))
        return slot.coefficients.unsqueeze(1) + own.tensor(name).to(at::kFloat) * own.real("step");
    return {};
  }

  Blocks blocks(const Slot& slot) const {
    const bool of_columns = slot.role == "attn.proj" || slot.role == "mlp.fc2";
    const std::int64_t count = slot.shape[of_columns ? 1 : 0];
    if (options_.grain == "part" && !slot.parts.empty()) return {slot.parts[0].end - slot.parts[0].begin, of_columns};
    if (options_.grain == "head" && slot.unit > 0) return {slot.unit, of_columns};
    if (options_.grain == "block") return {std::min(options_.block, count), of_columns};
    return {count, of_columns};
  }

  RecastOptions options_;
};

const bool kRegistered =
    describe<Recast, RecastOptions>("recast")
        .summary("weights as linear combinations of shared templates; a task trains the coefficients")
        .paper("arXiv:2411.16870")
        .families({{.name = "c"},
                   {.name = "c16", .trains = false, .dtype = at::kShort},
                   {.name = "c8", .trains = false, .dtype = at::kChar},
                   {.name = "step", .trains = false}})
        .claims({Claim::kIsolated, Claim::kNeutralStart, Claim::kPreferred})
        .needs({Need::kBank})
        .suggested_rate(0.03)
        .option("grain", &RecastOptions::grain, one_of({"slot", "part", "head", "block"}),
                "what shares a coefficient: a whole slot (the paper), q/k/v, an attention head, a block")
        .option("block", &RecastOptions::block, in_range(1, 1e6),
                "rows (columns of attn.proj and mlp.fc2; output channels) of a block at grain block")
        .option("bits", &RecastOptions::bits, one_of({"32", "16", "8"}),
                "of a stored coefficient; rounded once learning is over, figures are those of what is stored")
        .option("mlp_rate", &RecastOptions::mlp_rate, positive(), "factor on the learning rate in mlp.fc1 and mlp.fc2")
        .add();

}  // namespace
}  // namespace recast
