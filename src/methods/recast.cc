// RECAST. Tasnim, Plummer et al., ICLR 2025, arXiv:2411.16870, section 3.
// Idea     W_l = (1/K) sum_k sum_i c[l,k,i] T[g,i]: a slot's weight is a linear combination of its group's frozen
//          templates; a task trains the coefficients c and nothing else of the backbone.
// State    per slot c [K, B, n] fp32, B blocks of the grain (1 at grain slot): 4 K B n bytes. ViT-S/16, attn, six
//          groups of two, n = 2, K = 2: 48 numbers. Stored in 16 or 8 bits: what c adds to the backbone's own
//          coefficients as whole multiples of one `step` for all slots, 2 K B n or K B n bytes a slot and 8 for the
//          step. keep=N: N numbers in all, which of a slot they are (a bit for each that it could have, or fewer bytes
//          where few are kept), 8 bytes for their count.
// Departs  grain: beyond the paper, a block b of the slot may have coefficients of its own, W_l[b] = sum_i c[l,b,i]
//          T_i[b]. Blocks are runs of rows (output channels of a kernel); in attn.proj and mlp.fc2, whose inputs carry
//          the heads and units, runs of columns. A slot without the parts or heads that a grain asks for keeps one
//          block. keep: of all slots together only those N coefficients train whose gradient is the largest in size at
//          the start, of the mean loss over all training rows, once the head is fitted; all others stay the backbone's
//          own. Single coefficients and not blocks, since the K n of a block do different things (one scales it, the
//          others mix other layers in) and a bit tells which. After Sung et al., NeurIPS 2021, arXiv:2111.09839, who
//          add up squares row by row; the gradient of the mean does not depend on how rows are batched, and is what a
//          step of equal length in each coefficient, as AdamW's first, gains from it.
// Note     with K sets that start equal all sets get equal gradients and never part (tested), so K = 2 stores 48
//          numbers and moves 24 freely.
#include <ATen/ATen.h>

#include "recast/format/positions.h"
#include "recast/method/bank_sum.h"
#include "recast/method/registry.h"

namespace recast {
namespace {

struct RecastOptions {
  std::string grain = "slot";
  std::int64_t block = 64, keep = 0;
  std::string bits = "32";
  double mlp_rate = 1;
};

class Recast final : public Method, public WeightRule, public BankCombination {
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
    require_enough(context.anatomy());
    for (const std::string& name : slots(context.anatomy()))
      context.create(number_name("c", name), start(context.anatomy().at(name)).contiguous());
  }

  at::Tensor weight(const Slot& slot, const at::Tensor&, const View& numbers, Pass&) const override {
    const BankSum sum = combination(slot, numbers);
    return blockwise_sum(slot.bank, sum.coefficients, sum.blocks);
  }

  BankSum combination(const Slot& slot, const View& numbers) const override {
    const auto stored = decoded(slot, numbers.state(Scope::kTask));
    at::Tensor c = stored ? numbers.with_rules("c", *stored) : numbers("c");
    if (numbers.has("mask")) c = at::where(numbers("mask"), c, start(slot));  // which leaves the others no gradient
    return {c.mean(0), blocks(slot)};
  }

  double rate_scale(std::string_view, const Slot* slot) const override {
    return slot && slot->role.starts_with("mlp.") ? options_.mlp_rate : 1;
  }

  // ---- which of them train ----

  std::optional<Phase> next_phase(When when, Context& context) const override {
    if (when != When::kFitted || options_.keep == 0 || context.own(Scope::kRun).has("looked")) return {};
    Phase phase;
    phase.name = "choose";
    phase.source = "train_plain";
    phase.gradients = true;
    return phase;
  }

  bool visit(const Batch& batch, const Fields&, Context& context) const override {
    State& run = context.own(Scope::kRun);
    for (const std::string& name : trained_slots(context)) {
      const at::Tensor gradient = context.own(Scope::kTask).tensor(number_name("c", name)).grad();
      if (!gradient.defined()) continue;
      const std::string sum = number_name("gradient", name);
      const at::Tensor more = gradient.to(at::kDouble) * batch.rows;  // the loss is a mean over rows
      run.set(sum, run.has(sum) ? run.tensor(sum) + more : more);
    }
    return true;
  }

  void end_phase(const Phase&, Context& context) const override {
    State& run = context.own(Scope::kRun);
    run.set("looked", std::int64_t{1});
    const std::vector<std::string> names = trained_slots(context);
    std::vector<at::Tensor> sizes;
    std::vector<std::int64_t> counts;
    for (const std::string& name : names) {
      const std::string sum = number_name("gradient", name);
      counts.push_back(start(context.anatomy().at(name)).numel());
      sizes.push_back(run.has(sum) ? run.tensor(sum).abs().flatten() : at::zeros({counts.back()}, at::kDouble));
      run.erase(sum);
    }
    if (names.empty()) return;
    const at::Tensor order = std::get<1>(at::cat(sizes).sort(/*stable=*/true, /*dim=*/0, /*descending=*/true));
    const at::Tensor taken = at::zeros(order.sizes(), order.options().dtype(at::kBool));
    taken.index_fill_(0, order.slice(0, 0, options_.keep), true);
    const std::vector<at::Tensor> masks = taken.split_with_sizes(counts);
    for (std::size_t i = 0; i < names.size(); ++i)
      run.set(number_name("mask", names[i]), masks[i].view(start(context.anatomy().at(names[i])).sizes()).clone());
  }

  // ---- what is stored ----

  void end_task(Context& context) const override {
    const std::vector<std::string> names = trained_slots(context);
    if (options_.keep > 0) keep_chosen(names, context);
    if (options_.bits != "32") round(names, context);
  }

  void continue_task(Context& context) const override {
    require_enough(context.anatomy());
    State &own = context.own(Scope::kTask), &run = context.own(Scope::kRun);
    if (options_.keep > 0) {
      require_the_same_choice(own);
      run.set("looked", std::int64_t{1});
    }
    for (const std::string& name : slots(context.anatomy())) {
      const Slot& slot = context.anatomy().at(name);
      const auto whole = decoded(slot, own);
      if (options_.keep > 0) run.set(number_name("mask", name), mask(slot, own));
      if (!whole) continue;
      for (const char* family : {"c", "c16", "c8", "chosen"}) own.erase(number_name(family, name));
      context.create(number_name("c", name), *whole);
    }
    for (const char* scalar : {"step", "kept"}) own.erase(scalar);
  }

  std::optional<std::int64_t> learned_numbers(const State& task) const override {
    if (task.has("kept")) return task.integer("kept");
    std::int64_t count = 0;
    for (const auto& [name, number] : task)
      if (const auto* tensor = std::get_if<at::Tensor>(&number)) count += tensor->numel();
    return count;
  }

 private:
  /// The backbone's own coefficients as a task has them, [K, B, n].
  at::Tensor start(const Slot& slot) const {
    const at::Tensor& own = slot.coefficients;
    return own.unsqueeze(1).expand({own.size(0), blocks(slot).count(slot.shape), own.size(1)});
  }

  /// Not those whose coefficients another plug-in's rule makes: these do not train, and are not stored.
  std::vector<std::string> trained_slots(Context& context) const {
    std::vector<std::string> names = slots(context.anatomy());
    const State& own = context.own(Scope::kTask);
    std::erase_if(names, [&](const std::string& name) {
      const std::string c = number_name("c", name);
      return !own.has(c) || !own.tensor(c).requires_grad();
    });
    return names;
  }

  void require_enough(const Anatomy& anatomy) const {
    std::int64_t count = 0;
    for (const std::string& name : slots(anatomy)) count += start(anatomy.at(name)).numel();
    if (options_.keep > count)
      fail(Code::kInvalidArgument, "[recast] keep={} of {} coefficients that there are at grain={}: give fewer, or 0",
           options_.keep, count, options_.grain);
  }

  /// What moved once is stored for good.
  void require_the_same_choice(const State& own) const {
    if (!own.has("kept"))
      fail(Code::kInvalidArgument, "[recast] keep={} for a task all of whose coefficients moved: give keep=0",
           options_.keep);
    if (own.integer("kept") != options_.keep)
      fail(Code::kInvalidArgument, "[recast] keep={} for a task of which {} moved: give keep={}, or 0", options_.keep,
           own.integer("kept"), own.integer("kept"));
  }

  /// In place of whole coefficients those chosen, and which they are.
  void keep_chosen(const std::vector<std::string>& names, Context& context) const {
    State &own = context.own(Scope::kTask), &run = context.own(Scope::kRun);
    std::int64_t kept = 0;
    for (const std::string& name : names) {
      const std::string c = number_name("c", name);
      const at::Tensor chosen = run.tensor(number_name("mask", name));
      const at::Tensor values = own.tensor(c).detach().masked_select(chosen);
      own.erase(c);
      run.erase(number_name("mask", name));
      if (values.numel() == 0) continue;
      own.set(c, values);
      own.set(number_name("chosen", name), packed(chosen));
      kept += values.numel();
    }
    if (!names.empty()) own.set("kept", kept);
  }

  /// Whole multiples of one step in place of coefficients.
  void round(const std::vector<std::string>& names, Context& context) const {
    State& own = context.own(Scope::kTask);
    std::map<std::string, at::Tensor> moves;
    double largest = 0;
    for (const std::string& name : names) {
      const Slot& slot = context.anatomy().at(name);
      const std::string c = number_name("c", name);
      if (!own.has(c)) continue;  // none of the slot's was chosen
      const at::Tensor move = own.tensor(c).detach() - start_of_stored(slot, own);
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

  /// [K, B, n] of what end_task() stored in a form of its own; nothing where the coefficients are stored whole.
  std::optional<at::Tensor> decoded(const Slot& slot, const State& own) const {
    std::string stored;
    for (const char* family : {"c", "c16", "c8"})
      if (const std::string name = number_name(family, slot.name); own.has(name)) stored = name;
    if (stored.empty()) return own.has("kept") ? std::optional(start(slot)) : std::nullopt;  // none was chosen
    const bool some = own.has(number_name("chosen", slot.name)), rounded = family_of(stored) != "c";
    if (!some && !rounded) return {};
    const at::Tensor from = start_of_stored(slot, own);
    at::Tensor values = own.tensor(stored);
    if (values.sizes() != from.sizes())
      fail(Code::kShapeMismatch, "[recast] '{}' has {} numbers, {} belong there at this grain and choice", stored,
           values.numel(), from.numel());
    if (rounded) values = from + values.to(at::kFloat) * own.real("step");
    return some ? start(slot).masked_scatter(mask(slot, own), values) : values;
  }

  /// The backbone's own coefficients in the place of what is stored: [K, B, n], or [N] of those chosen.
  at::Tensor start_of_stored(const Slot& slot, const State& own) const {
    return own.has(number_name("chosen", slot.name)) ? start(slot).masked_select(mask(slot, own)) : start(slot);
  }

  /// bool [K, B, n]: which of a slot's coefficients the task has chosen.
  at::Tensor mask(const Slot& slot, const State& own) const {
    const at::Tensor chosen = at::zeros(start(slot).sizes(), at::kBool);
    if (const std::string name = number_name("chosen", slot.name); own.has(name)) {
      const at::Tensor bytes = own.tensor(name).cpu().contiguous();
      if (bytes.scalar_type() != at::kByte) fail(Code::kShapeMismatch, "[recast] '{}' must be bytes", name);
      const std::span set(bytes.const_data_ptr<std::uint8_t>(), static_cast<std::size_t>(bytes.numel()));
      bool* const mask = chosen.mutable_data_ptr<bool>();
      for (const std::int64_t place : decode_positions(set, chosen.numel())) mask[place] = true;
    }
    return chosen.to(slot.coefficients.device());
  }

  static at::Tensor packed(const at::Tensor& mask) {
    const at::Tensor places = mask.flatten().nonzero().flatten().cpu().contiguous();
    const std::span set(places.const_data_ptr<std::int64_t>(), static_cast<std::size_t>(places.numel()));
    return at::tensor(encode_positions(set, mask.numel()), at::kByte);
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
                   {.name = "step", .trains = false},
                   {.name = "chosen", .trains = false, .pool = Pool::kKeep, .dtype = at::kByte},
                   {.name = "kept", .trains = false, .pool = Pool::kKeep},
                   {.name = "mask", .scope = Scope::kRun, .trains = false, .dtype = at::kBool},
                   {.name = "gradient", .scope = Scope::kRun, .trains = false, .dtype = at::kDouble},
                   {.name = "looked", .scope = Scope::kRun, .trains = false}})
        .claims({Claim::kIsolated, Claim::kNeutralStart, Claim::kPreferred})
        .needs({Need::kBank})
        .suggested_rate(0.03)
        .option("grain", &RecastOptions::grain, one_of({"slot", "part", "head", "block"}),
                "what shares a coefficient: a whole slot (the paper), q/k/v, an attention head, a block")
        .option("block", &RecastOptions::block, in_range(1, 1e6),
                "rows (columns of attn.proj and mlp.fc2; output channels) of a block at grain block")
        .option("keep", &RecastOptions::keep, at_least(0),
                "how many coefficients train and are stored, those of the largest gradients at the start; 0: all")
        .option("bits", &RecastOptions::bits, one_of({"32", "16", "8"}),
                "of a stored coefficient; rounded once learning is over, figures are those of what is stored")
        .option("mlp_rate", &RecastOptions::mlp_rate, positive(), "factor on the learning rate in mlp.fc1 and mlp.fc2")
        .add();

}  // namespace
}  // namespace recast
