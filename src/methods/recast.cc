// RECAST. Tasnim, Plummer et al., ICLR 2025, arXiv:2411.16870, section 3.
// Idea     W_l = (1/K) sum_k sum_i c[l,k,i] T[g,i]: a slot's weight is a linear combination of its group's frozen
//          templates; a task trains the coefficients c and nothing else of the backbone.
// State    per slot c [K, B, n] fp32, B blocks of the grain (1 at grain slot): 4 K B n bytes. ViT-S/16, attn, six
//          groups of two, n = 2, K = 2: 48 numbers.
// Departs  grain: beyond the paper, a block b of the slot may have coefficients of its own, W_l[b] = sum_i c[l,b,i]
//          T_i[b]. Blocks are runs of rows; in attn.proj and mlp.fc2, whose inputs carry the heads and units, runs of
//          columns. A slot without the parts or heads that a grain asks for keeps one block.
// Note     with K sets that start equal all sets get equal gradients and never part (tested), so K = 2 stores 48
//          numbers and moves 24 freely.
#include <ATen/ATen.h>

#include "recast/method/registry.h"

namespace recast {
namespace {

constexpr std::int64_t kBlockRows = 64;

struct RecastOptions {
  std::string grain = "slot";
};

class Recast final : public Method, public WeightRule {
 public:
  explicit Recast(RecastOptions options) : grain_(std::move(options.grain)) {}

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
      context.create(number_name("c", name),
                     start.unsqueeze(1).expand({start.size(0), blocks(slot), start.size(1)}).contiguous());
    }
  }

  at::Tensor weight(const Slot& slot, const at::Tensor&, const View& numbers, Pass&) const override {
    const at::Tensor c = numbers("c").mean(0);  // [B, n]
    const at::Tensor& templates = slot.bank;    // [n, shape...]
    if (c.size(0) == 1) return at::mv(templates.flatten(1).t(), c.flatten()).view(slot.shape);
    const int side = of_columns(slot) ? 1 : 0;
    const std::int64_t count = slot.shape[side];
    // scale [n, count]: the coefficient of each row (or column) of each template.
    const at::Tensor block = at::arange(count).floor_divide(block_length(slot));
    at::Tensor scale = c.index_select(0, block).t();
    scale = side == 1 ? scale.unsqueeze(1) : scale.unsqueeze(2);
    return (templates.flatten(2) * scale).sum(0).view(slot.shape);
  }

 private:
  static bool of_columns(const Slot& slot) { return slot.role == "attn.proj" || slot.role == "mlp.fc2"; }

  std::int64_t block_length(const Slot& slot) const {
    const std::int64_t count = slot.shape[of_columns(slot) ? 1 : 0];
    if (grain_ == "part" && !slot.parts.empty()) return slot.parts.front().end - slot.parts.front().begin;
    if (grain_ == "head" && slot.unit > 0) return slot.unit;
    if (grain_ == "block") return std::min(kBlockRows, count);
    return count;
  }
  std::int64_t blocks(const Slot& slot) const {
    const std::int64_t count = slot.shape[of_columns(slot) ? 1 : 0], length = block_length(slot);
    return (count + length - 1) / length;
  }

  std::string grain_;
};

const bool kRegistered =
    describe<Recast, RecastOptions>("recast")
        .summary("weights as linear combinations of shared templates; a task trains the coefficients")
        .paper("arXiv:2411.16870")
        .families({{.name = "c"}})
        .claims({Claim::kIsolated, Claim::kNeutralStart, Claim::kPreferred})
        .needs({Need::kBank})
        .suggested_rate(0.03)
        .option("grain", &RecastOptions::grain, one_of({"slot", "part", "head", "block"}),
                "what shares a coefficient: a whole slot (the paper), q/k/v, an attention head, 64 rows or columns")
        .add();

}  // namespace
}  // namespace recast
