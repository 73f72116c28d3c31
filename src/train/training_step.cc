#include "training_step.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

namespace recast {

TrainingStep::TrainingStep(Learner& learner, Batch batch, const Share& share)
    : learner_(learner), batch_(std::move(batch)), share_(share) {
  run_.mode = Mode::kTrain;
  run_.step = learner.counters().step;
  run_.key = learner.key()
                 .fold("phase", static_cast<std::uint64_t>(learner.counters().phase))
                 .fold("step", static_cast<std::uint64_t>(run_.step));
  if (!learner.alone()) batch_.at["row"] = at::arange(share.first, share.first + share.rows);
  run_.dtype = learner.dtype();
  run_.emissions = &emissions_;
  for (const Plug& plug : learner.recipe().plugs()) contexts_.emplace(&plug, RunContext(learner, plug));
  const Plug* loss = learner.recipe().primary_loss();
  bind(loss ? *loss : *learner.recipe().driver());
}

TrainingStep::TrainingStep(Learner& learner, Batch batch, const Share& share, const std::vector<std::string>& taps)
    : TrainingStep(learner, std::move(batch), share) {
  run_.mode = Mode::kEvaluate;
  run_.taps = taps;
}

template <class Call>
void TrainingStep::for_each_update_rule(Call call) {
  const Plug* caller = bound_;
  for (const Plug& plug : learner_.recipe().plugs()) {
    if (!plug.roles.update) continue;
    bind(plug);
    call(*plug.roles.update);
  }
  bind(*caller);
}

const Fields& TrainingStep::out() {
  if (!out_) out_ = learner_.model().forward(batch_, run_);
  return *out_;
}

at::Tensor TrainingStep::objective(const Batch& rows, const Fields& out, const Emissions& emissions) {
  const Plug* caller = bound_;
  at::Tensor total;
  for (const Plug& plug : learner_.recipe().plugs()) {
    if (!plug.roles.loss) continue;
    bind(plug);
    const at::Tensor term = plug.roles.loss->loss(rows, out, *this);
    if (term.dim() != 0 || term.scalar_type() != at::kFloat)
      fail(Code::kInternal, "[{}] a loss must be one fp32 scalar, got {} dimensions", plug.alias(), term.dim());
    total = total.defined() ? total + term : term;
  }
  if (!total.defined()) fail(Code::kInvalidArgument, "[learn] no plug-in of this recipe gives a loss");
  for (const auto& [name, term] : emissions.losses) total = total + term;
  bind(*caller);
  return total;
}

at::Tensor TrainingStep::loss(const Batch& rows) {
  Emissions emissions;
  Run run = run_;
  run.emissions = &emissions;
  const Fields out = learner_.model().forward(rows, run);
  return objective(rows, out, emissions);
}

double TrainingStep::backward_share() {
  if (batch_.rows == 0) return 0;
  at::Tensor total = objective(batch_, out(), emissions_);
  if (!learner_.alone()) {
    if (batch_.has("weight")) fail(Code::kUnsupported, "[ranks] rows with weights: learn with one process");
    if (!emissions_.values.empty())
      fail(Code::kUnsupported, "[{}] emits numbers, which several ranks cannot share: learn with one process",
           emissions_.values.begin()->first.first);
    // A loss is a mean over rows.
    total = total * (static_cast<double>(share_.rows) / static_cast<double>(share_.whole));
  }
  const double value = total.item<double>();
  if (std::isfinite(value) && total.requires_grad()) total.backward();
  return value;
}

std::optional<double> TrainingStep::backward() {
  double value = backward_share();
  if (!learner_.alone()) learner_.sum_gradients(value);
  if (std::isfinite(value) && finite_gradients()) return value;
  clear();
  return {};
}

std::optional<double> TrainingStep::optimise() {
  const auto value = backward();
  if (!value) return {};  // before any hook, which might put them into its sums
  for_each_update_rule([&](const UpdateRule& rule) { rule.after_backward(*this); });
  update();
  return refused_ ? std::nullopt : value;
}

bool TrainingStep::drive(const Plug& driver) {
  bind(driver);
  driver.roles.update->drive(*this);
  return !refused_;
}

std::vector<at::Tensor> TrainingStep::grad(const at::Tensor& scalar, std::string_view plug, bool twice) {
  std::vector<at::Tensor> inputs;
  for (const Param& param : learner_.params())
    if (plug.empty() || param.group == plug) inputs.push_back(param.value);
  try {
    return torch::autograd::grad({scalar}, inputs, {}, /*retain_graph=*/true, /*create_graph=*/twice,
                                 /*allow_unused=*/true);
  } catch (const c10::Error& error) {
    const std::string_view reason = error.what_without_backtrace();
    if (reason.find("not implemented") == reason.npos) throw;
    fail(Code::kUnsupported, "[{}] asks for a derivative that this backbone does not have: {}", bound_->alias(),
         reason.substr(0, reason.find('\n')));
  }
}

at::Tensor TrainingStep::weight_grad(std::string_view slot) {
  const auto found = emissions_.weights.find({bound_->alias(), std::string(slot)});
  if (found == emissions_.weights.end())
    fail(Code::kInternal, "[{}] asks for the gradient of its weight at {} without Need::kWeightGradient",
         bound_->alias(), slot);
  return found->second.grad();
}

bool TrainingStep::finite_gradients() const {
  for (const Param& param : learner_.params())
    if (param.value.grad().defined() && !at::isfinite(param.value.grad()).all().item<bool>()) return false;
  return true;
}

void TrainingStep::clip() {
  if (learner_.clip_norm() <= 0) return;
  double squares = 0;  // summed parameter by parameter in order: the same at every thread count
  for (const Param& param : learner_.params()) {
    const at::Tensor grad = param.value.grad();
    if (grad.defined()) squares += grad.to(at::kDouble).square().flatten().sum().item<double>();
  }
  const double factor = learner_.clip_norm() / (std::sqrt(squares) + 1e-6);
  if (factor >= 1) return;
  for (const Param& param : learner_.params())
    if (param.value.grad().defined()) param.value.mutable_grad().mul_(factor);
}

void TrainingStep::move_params() {
  const std::span<Param> params = learner_.params();
  const Plug* schedule = learner_.recipe().schedule();
  std::vector<int> takers(params.size(), 0);
  for_each_update_rule([&](const UpdateRule& rule) {
    std::vector<Param> taken;
    std::vector<double> factors;
    for (std::size_t i = 0; i < params.size(); ++i) {
      if (!rule.takes(params[i])) continue;
      ++takers[i];
      taken.push_back(params[i]);
      factors.push_back(
          schedule ? schedule->roles.update->rate(params[i].group, params[i].born_step, learner_.counters()) : 1.0);
    }
    if (!taken.empty()) rule.apply(taken, factors, *this);
  });
  for (std::size_t i = 0; i < params.size(); ++i)
    if (takers[i] != 1)
      fail(Code::kInvalidArgument, "[compose] {} optimisers move '{}', expected exactly one", takers[i],
           params[i].name);
}

void TrainingStep::apply() {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> before;
  for (const Param& param : learner_.params())
    before.push_back(param.frozen.defined() ? param.value.detach().clone() : at::Tensor());
  move_params();
  for (std::size_t i = 0; i < before.size(); ++i) {
    if (!before[i].defined()) continue;
    Param& param = learner_.params()[i];
    std::vector<std::int64_t> mask_shape(param.value.dim(), 1);
    mask_shape[0] = -1;
    param.value.copy_(at::where(param.frozen.view(mask_shape), before[i], param.value));
  }
}

void TrainingStep::update() {
  if (!finite_gradients()) {  // a driver's, or what a hook made of them
    refused_ = true;
    return clear();
  }
  clip();
  clipped_ = true;
  for_each_update_rule([&](const UpdateRule& rule) { rule.before_step(*this); });
  apply();
  {
    const at::NoGradGuard no_grad;
    for_each_update_rule([&](const UpdateRule& rule) { rule.after_step(*this); });
  }
  clear();
  clipped_ = false;
}

void TrainingStep::clear() {
  for (Param& param : learner_.params()) param.value.mutable_grad().reset();
}

std::vector<at::Tensor> TrainingStep::preview() {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> before, gradients, moves;
  for (const Param& param : learner_.params()) {
    before.push_back(param.value.detach().clone());
    gradients.push_back(param.value.grad().defined() ? param.value.grad().clone() : at::Tensor());
  }
  const Numbers run_states = learner_.numbers().only(Scope::kRun).clone();
  if (!clipped_) clip();
  apply();
  for (std::size_t i = 0; i < before.size(); ++i) {
    Param& param = learner_.params()[i];
    moves.push_back(param.value.detach() - before[i]);
    param.value.copy_(before[i]);
    if (gradients[i].defined()) param.value.mutable_grad().copy_(gradients[i]);
  }
  for (const Plug& plug : learner_.recipe().plugs()) {
    State& run_state = learner_.numbers().at(plug.alias(), Scope::kRun);
    const State trained = trained_of(*plug.info, run_state);  // put back above, and leaves of the graph
    run_state = run_states.at(plug.alias(), Scope::kRun);
    put(trained, run_state);
  }
  return moves;
}

void TrainingStep::apply_emissions() {
  for (auto& [key, value] : emissions_.values) {
    const auto& [plug, name] = key;
    const Family* family = learner_.recipe().plug(plug).info->family(family_of(name));
    if (!family || family->trains)
      fail(Code::kInternal, "[{}] emits '{}', which is no untrained family of its own", plug, name);
    learner_.numbers().at(plug, family->scope).set(name, value);
  }
}

}  // namespace recast
