// LoRA. Hu et al., ICLR 2022, arXiv:2106.09685, eq. 3.
// Idea     W' = W + s B A on chosen slots, or on parts of a fused one; s = alpha / r, or alpha / sqrt(r) (rsLoRA,
//          arXiv:2312.03732). W is never written.
// State    per slot and part a [r, in] and b [out, r], fp32: 4 r (in + out) bytes; of a convolution a [r, in, kh, kw],
//          b [out, r, 1, 1]. r is what the shapes say, and alpha is a number of its own where one slot's differs from
//          the option: adapters from elsewhere may have both by slot.
// Start    a uniform in +-1/sqrt(fan in) (Kaiming, a = sqrt 5), b zero: bit for bit the backbone.
// Departs  any slot may be chosen; the paper adapts q and v. Of a convolution with groups B A is the same sum over the
//          kernel as it is stored, [out, in / groups, kh, kw]; PEFT has no such update.
#include <ATen/ATen.h>

#include <cmath>
#include <set>

#include "recast/method/registry.h"

namespace recast {
namespace {

constexpr std::int64_t kMostRank = 4096;

struct LoraOptions {
  std::int64_t rank = 4;
  double alpha = 4;
  bool rslora = false;
  std::string targets = "auto";
};

/// What adds to rows begin..end of a slot.
struct Update {
  at::Tensor a, b;
  double scale;
  std::size_t part;  ///< index into the slot's parts
  bool whole;
};

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> words;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find('+', begin), text.size());
    words.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

bool is_pixels(const Slot& slot) { return slot.role == "patch_embed"; }
bool is_kernel(const Slot& slot) { return slot.shape.size() == 4; }
Part whole(const Slot& slot) { return {"", 0, slot.shape.front()}; }

/// What a target names at a slot: all of it (a part without a name), one of its parts, or nothing.
std::vector<Part> named_by(const std::string& target, const Slot& slot) {
  if (slot.kind != SlotKind::kWeight) return {};
  if (slot.role == target || slot.role.ends_with("." + target)) return {whole(slot)};
  if (target == "all" && !is_pixels(slot)) return {whole(slot)};
  if (target == "conv" && is_kernel(slot) && !is_pixels(slot)) return {whole(slot)};
  for (const Part& part : slot.parts)
    if (part.name == target) return {part};
  return {};
}

/// Every target that a backbone has.
std::set<std::string> known_targets(const Anatomy& anatomy) {
  std::set<std::string> known = {"all"};
  for (const Slot& slot : anatomy.slots) {
    if (slot.kind != SlotKind::kWeight) continue;
    known.insert(slot.role.substr(slot.role.rfind('.') + 1));
    if (is_kernel(slot) && !is_pixels(slot)) known.insert("conv");
    for (const Part& part : slot.parts) known.insert(part.name);
  }
  return known;
}

[[noreturn]] void refuse(const std::string& target, const Anatomy& anatomy) {
  const std::set<std::string> known = known_targets(anatomy);
  const std::string near = nearest(target, {known.begin(), known.end()});
  fail(Code::kUnsupported, "[lora] this backbone has no target '{}'{}; it has {}, several are joined by +", target,
       near.empty() ? "" : ", did you mean '" + near + "'?", fmt::join(known, ", "));
}

/// y (a weight or a product) with the updates added along the dimension that counts the slot's rows.
template <class Delta>
at::Tensor with_updates(at::Tensor y, std::int64_t dim, const Slot& slot, const std::vector<Update>& updates,
                        const Delta& delta) {
  std::vector<at::Tensor> pieces;
  for (const Update& update : updates) {
    if (update.whole) {
      y = at::add(y, delta(update), update.scale);
      continue;
    }
    if (pieces.empty()) {
      std::vector<std::int64_t> lengths;
      for (const Part& part : slot.parts) lengths.push_back(part.end - part.begin);
      pieces = y.split_with_sizes(lengths, dim);
    }
    pieces[update.part] = at::add(pieces[update.part], delta(update), update.scale);
  }
  return pieces.empty() ? y : at::cat(pieces, dim);
}

class Lora final : public Method, public WeightRule {
 public:
  explicit Lora(LoraOptions options) : options_(std::move(options)) {}

  Stage stage() const override { return Stage::kAdd; }

  std::vector<std::string> slots(const Anatomy& anatomy) const override {
    std::vector<std::string> names;
    for (const Slot& slot : anatomy.slots)
      if (!adapted(slot, anatomy).empty()) names.push_back(slot.name);
    for (const std::string& target : targets(anatomy))
      if (std::none_of(anatomy.slots.begin(), anatomy.slots.end(),
                       [&](const Slot& slot) { return !named_by(target, slot).empty(); }))
        refuse(target, anatomy);
    return names;
  }

  void begin_task(Context& context) const override {
    for (const std::string& name : slots(context.anatomy())) {
      const Slot& slot = context.anatomy().at(name);
      for (const Part& part : adapted(slot, context.anatomy())) {
        std::vector<std::int64_t> a = slot.shape, b(slot.shape.size(), 1);
        a[0] = b[1] = options_.rank;
        b[0] = part.end - part.begin;
        const Key key = context.key().fold(name).fold(part.name);
        const at::Tensor drawn = key.uniform(a) * 2 - 1;
        const double fan_in = static_cast<double>(drawn[0].numel());
        context.create(number_name("a", name, part.name), drawn / std::sqrt(fan_in));
        context.create(number_name("b", name, part.name), at::zeros(b));
      }
    }
  }

  at::Tensor weight(const Slot& slot, const at::Tensor& w, const View& numbers, Pass&) const override {
    return with_updates(w, 0, slot, updates(slot, numbers), [&](const Update& update) {
      std::vector<std::int64_t> shape = slot.shape;
      shape[0] = update.b.size(0);
      return at::matmul(update.b.flatten(1), update.a.flatten(1)).view(shape);
    });
  }

  std::optional<at::Tensor> product(const Slot& slot, const at::Tensor& x, const Next& next, const View& numbers,
                                    Pass&) const override {
    if (is_kernel(slot)) return {};  // stride and padding are the convolution's own
    const at::ScalarType type = x.scalar_type();
    return with_updates(next(x), -1, slot, updates(slot, numbers), [&](const Update& update) {
      return at::linear(at::linear(x, update.a.to(type)), update.b.to(type));
    });
  }

 private:
  std::vector<std::string> targets(const Anatomy& anatomy) const {
    if (options_.targets != "auto") return split(options_.targets);
    for (const Slot& slot : anatomy.slots)
      if (!slot.parts.empty()) return {"qkv"};
    return {"conv"};
  }

  /// The parts of a slot that a new task adapts, each once.
  std::vector<Part> adapted(const Slot& slot, const Anatomy& anatomy) const {
    std::vector<Part> parts;
    for (const std::string& target : targets(anatomy))
      for (const Part& part : named_by(target, slot))
        if (std::none_of(parts.begin(), parts.end(), [&](const Part& p) { return p.name == part.name; }))
          parts.push_back(part);
    return parts;
  }

  /// What the numbers hold at a slot, whatever the options would have chosen; the whole slot's before its parts'.
  std::vector<Update> updates(const Slot& slot, const View& numbers) const {
    std::vector<Update> found;
    if (numbers.has("a")) found.push_back(update(slot, {}, numbers));
    for (std::size_t i = 0; i < slot.parts.size(); ++i) {
      if (!numbers.has("a", slot.parts[i].name)) continue;
      found.push_back(update(slot, slot.parts[i].name, numbers));
      found.back().part = i;
      found.back().whole = false;
    }
    return found;
  }

  Update update(const Slot& slot, const std::string& part, const View& numbers) const {
    const at::Tensor a = numbers("a", part);
    const double rank = static_cast<double>(a.size(0));
    const std::string own = number_name("alpha", slot.name, part);
    const State& task = numbers.state(Scope::kTask);
    const double alpha = task.has(own) ? task.real(own) : options_.alpha;
    return {a, numbers("b", part), alpha / (options_.rslora ? std::sqrt(rank) : rank), 0, true};
  }

  LoraOptions options_;
};

const bool kRegistered =
    describe<Lora, LoraOptions>("lora")
        .summary("low-rank update of chosen weights: W + s B A")
        .paper("arXiv:2106.09685")
        .families({{.name = "a"}, {.name = "b"}, {.name = "alpha", .trains = false}})
        .claims({Claim::kIsolated, Claim::kNeutralStart})
        .suggested_rate(2e-3)
        .peft_type("LORA")
        .option("rank", &LoraOptions::rank, in_range(1, kMostRank), "inner width r")
        .option("alpha", &LoraOptions::alpha, positive(), "the update is scaled by alpha / r")
        .option("rslora", &LoraOptions::rslora, any_value(), "by alpha / sqrt(r) instead (arXiv:2312.03732)")
        .option("targets", &LoraOptions::targets, any_value(),
                "weights joined by +: q, k, v, qkv, proj, fc1, fc2, conv, all; auto: qkv, or conv where there is none")
        .add();

}  // namespace
}  // namespace recast
