#include "forward_pass.h"

#include <c10/core/GradMode.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "recast/model/sum_features.h"

namespace recast {
namespace {

/// Names whose plug-in runs, for the length of a call into it.
class Running {
 public:
  Running(const Plug*& current, const Plug& plug) : current_(current), before_(current) { current = &plug; }
  ~Running() { current_ = before_; }

 private:
  const Plug*& current_;
  const Plug* before_;
};

}  // namespace

ForwardPass::ForwardPass(const Backbone& backbone, const Composition& recipe, const Numbers& numbers,
                         const Batch& batch, const Run& run)
    : backbone_(backbone),
      recipe_(recipe),
      numbers_(numbers),
      batch_(batch),
      run_(run),
      taps_(recipe.taps().begin(), recipe.taps().end()) {
  for (const std::string& tap : run.taps) taps_.insert(backbone.anatomy().at(tap).name);
}

View ForwardPass::view(const Plug& plug, std::string_view slot) {
  return View(numbers_, plug.alias(), plug.info->families, slot, this);
}

at::Tensor ForwardPass::apply_rules(const Slot& slot, at::Tensor w, const std::vector<const Plug*>& rules,
                                    std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    const Plug& plug = *rules[i];
    const Running running(current_, plug);
    w = plug.roles.weight->weight(slot, w, view(plug, slot.name), *this);
    if (!slot.shape.empty() && w.sizes() != at::IntArrayRef(slot.shape))
      fail(Code::kInternal, "[{}] returned {} for {} of another shape", plug.alias(), fmt::join(w.sizes(), "x"),
           slot.name);
    if (plug.info->has(Need::kWeightGradient) && run_.emissions && w.requires_grad()) {
      if (!w.is_leaf()) w.retain_grad();
      run_.emissions->weights[{plug.alias(), slot.name}] = w;
    }
  }
  return w;
}

at::Tensor ForwardPass::weight_after(const Slot& slot, std::size_t count) {
  const auto& rules = recipe_.weight_rules(slot.name);
  const bool replaced = count > 0 && rules.front()->roles.weight->stage() == Stage::kSource;
  return apply_rules(slot, replaced ? at::Tensor() : backbone_.weight(slot), rules, count);
}

at::Tensor ForwardPass::weight(std::string_view name) {
  if (const auto found = weights_.find(name); found != weights_.end()) return found->second;
  const Slot& slot = backbone_.anatomy().at(name);
  return weights_[slot.name] = weight_after(slot, recipe_.weight_rules(name).size());
}

at::Tensor ForwardPass::product_after(const Slot& slot, std::size_t count, const at::Tensor& x, const Apply& apply) {
  const auto& rules = recipe_.weight_rules(slot.name);
  if (count > 0 && !rules[count - 1]->info->has(Need::kWeightGradient)) {
    const Plug& last = *rules[count - 1];
    const Running running(current_, last);
    const auto next = [&](const at::Tensor& in) { return product_after(slot, count - 1, in, apply); };
    if (auto y = last.roles.weight->product(slot, x, next, view(last, slot.name), *this)) return *y;
  }
  const at::Tensor w = count == rules.size() ? weight(slot.name) : weight_after(slot, count);
  return apply(x, w);  // which casts it to the dtype of x, or has a frozen one in it already
}

at::Tensor ForwardPass::product(const Slot& slot, const at::Tensor& x, const Apply& apply) {
  return product_after(slot, recipe_.weight_rules(slot.name).size(), x.to(run_.dtype), apply);
}

at::Tensor ForwardPass::call_inside(const Slot& slot, std::size_t count, const at::Tensor& x, const Next& next) {
  if (count == 0) return next(x);
  const Plug& plug = *recipe_.branches(slot.name)[count - 1];
  const Running running(current_, plug);
  const auto inner = [&](const at::Tensor& in) { return call_inside(slot, count - 1, in, next); };
  return plug.roles.branch->around(slot, x, inner, view(plug, slot.name), *this);
}

at::Tensor ForwardPass::call(const Slot& slot, const at::Tensor& x, const Next& next) {
  at::Tensor y = call_inside(slot, recipe_.branches(slot.name).size(), x, next);
  if (taps_.count(slot.name)) out_["tap." + slot.name] = y;
  return y;
}

at::Tensor ForwardPass::value(const Slot& slot, const at::Tensor& own) {
  return recipe_.weight_rules(slot.name).empty() ? own : weight(slot.name);
}

std::optional<BankSums> ForwardPass::sums() {
  BankSums sums;
  for (const Slot& slot : backbone_.anatomy().slots) {
    if (!recipe_.branches(slot.name).empty()) return {};
    const auto& rules = recipe_.weight_rules(slot.name);
    if (rules.empty()) continue;
    const auto* rule = dynamic_cast<const BankCombination*>(rules[0]->method.get());
    if (!rule || rules.size() > 1 || !slot.bank.defined() || rules[0]->info->has(Need::kWeightGradient)) return {};
    const Running running(current_, *rules[0]);
    sums[slot.name] = rule->combination(slot, view(*rules[0], slot.name));
  }
  return sums;
}

at::Tensor ForwardPass::sum_features() {
  const auto* backbone = dynamic_cast<const SumFeatures*>(&backbone_);
  if (!backbone || !taps_.empty()) return {};
  const auto weights = sums();
  if (!weights) return {};
  // In fp32 and without backward the ordinary pass is about as fast, needs no packed copy of the weights, and gives the
  // backbone's own bits at its own coefficients.
  const bool records = c10::GradMode::is_enabled() &&
                       std::any_of(weights->begin(), weights->end(),
                                   [](const auto& sum) { return sum.second.coefficients.requires_grad(); });
  if (!records && run_.dtype == at::kFloat) return {};
  const at::Tensor& input = batch_.column("input");
  if (!backbone->why_no_sum_features(input, *weights, run_.dtype).empty()) return {};
  return backbone->sum_features(input, *weights, run_.dtype);
}

at::Tensor ForwardPass::backbone_features() {
  at::Tensor features;
  if (batch_.has("features")) {  // they enter at the feature slot, which a backbone's own pass goes through itself
    features = batch_.column("features");
    if (const Slot* slot = backbone_.anatomy().find("features"))
      features = call(*slot, features, [](const at::Tensor& x) { return x; });
  } else {
    features = sum_features();
    if (!features.defined()) features = backbone_.features(batch_.column("input"), *this).to(at::kFloat);
  }
  if (features.dim() != 2 || features.size(1) != backbone_.feature_width())
    fail(Code::kShapeMismatch, "[model] features are {}, expected rows x {}", fmt::join(features.sizes(), "x"),
         backbone_.feature_width());
  return features;
}

Fields ForwardPass::run(bool heads) {
  out_["features"] = backbone_features();
  if (!heads) return out_;
  Fields below;
  auto forward = [&](const Plug& plug, const Fields* base) {
    const Running running(current_, plug);
    return plug.roles.head->forward(out_, base, view(plug, ""), *this);
  };
  below = forward(recipe_.head(), nullptr);
  for (const Plug* corrector : recipe_.correctors()) below = forward(*corrector, &below);
  for (auto& [name, tensor] : below) out_[name] = tensor;
  return out_;
}

at::Tensor ForwardPass::param(std::string_view plug, std::string_view name, const at::Tensor& own) {
  const std::string slot_name = fmt::format("{}.{}", plug, name);
  const auto& rules = recipe_.weight_rules(slot_name);
  if (rules.empty()) return own;
  if (const auto found = weights_.find(slot_name); found != weights_.end()) return found->second;
  Slot slot;
  slot.name = slot_name;
  slot.kind = SlotKind::kParam;
  if (own.defined()) slot.shape = own.sizes().vec();
  const bool replaced = rules.front()->roles.weight->stage() == Stage::kSource;
  if (!in_making_.insert(slot_name).second)
    fail(Code::kInvalidArgument, "[compose] the rules on '{}' depend on each other", slot_name);
  const at::Tensor value = apply_rules(slot, replaced ? at::Tensor() : own, rules, rules.size());
  in_making_.erase(slot_name);
  return weights_[slot_name] = value;
}

void ForwardPass::emit(std::string_view name, at::Tensor value) {
  if (!run_.emissions) return;
  RECAST_ASSERT(current_);
  run_.emissions->values[{current_->alias(), std::string(name)}] = value.detach();
}

void ForwardPass::add_loss(std::string_view name, at::Tensor scalar) {
  if (run_.emissions) run_.emissions->losses.emplace_back(name, std::move(scalar));
}

at::Tensor ForwardPass::once(std::string_view name, const std::function<at::Tensor()>& compute) {
  const auto found = once_.find(name);
  return found != once_.end() ? found->second : once_[std::string(name)] = compute();
}

const Family& View::family(std::string_view name) const {
  for (const Family& family : families_)
    if (family.name == name) return family;
  fail(Code::kInternal, "[{}] reads '{}', which is none of its families", plug_, name);
}

at::Tensor View::read(std::string_view family_name, std::string_view slot, std::string_view key) const {
  const std::string name = number_name(family_name, slot, key);
  const State& state = numbers_.at(plug_, family(family_name).scope);
  if (!pass_) return state.tensor(name);
  // A number that another rule makes is not stored: then there is none of its own.
  const at::Tensor value = pass_->param(plug_, name, state.has(name) ? state.tensor(name) : at::Tensor());
  return value.defined() ? value : state.tensor(name);
}

at::Tensor View::operator()(std::string_view name, std::string_view key) const { return read(name, slot_, key); }
at::Tensor View::global(std::string_view name, std::string_view key) const { return read(name, {}, key); }
at::Tensor View::with_rules(std::string_view name, const at::Tensor& value) const {
  return pass_ ? pass_->param(plug_, number_name(name, slot_), value) : value;
}
bool View::has(std::string_view name, std::string_view key) const {
  return numbers_.at(plug_, family(name).scope).has(number_name(name, slot_, key));
}

}  // namespace recast
