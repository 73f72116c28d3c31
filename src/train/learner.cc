#include "learner.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <chrono>

#include "checkpoint.h"
#include "recast/base/log.h"
#include "recast/format/tensor_file.h"
#include "run_context.h"
#include "training_step.h"

namespace recast {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

bool better(const Evaluation& a, const Evaluation& b) { return a.top1 != b.top1 ? a.top1 > b.top1 : a.loss < b.loss; }

/// "family@SLOT#key" has the slot SLOT; null where it names none of the backbone's.
const Slot* slot_of(std::string_view number, const Anatomy& anatomy) {
  const std::size_t at = number.find('@');
  if (at == number.npos) return nullptr;
  const std::string_view rest = number.substr(at + 1);
  return anatomy.find(rest.substr(0, rest.find('#')));
}

/// Whether it outlives the run.
bool in_use(Scope scope) { return scope == Scope::kTask || scope == Scope::kShared; }

/// Columns that a head has already: the rows of its numbers with a row a class.
std::size_t known_columns(const Plug& plug, const Numbers& numbers) {
  for (const auto& [name, number] : numbers.at(plug.alias(), plug.info->class_scope())) {
    const Family* family = plug.info->family(family_of(name));
    const auto* tensor = std::get_if<at::Tensor>(&number);
    if (family && family->rows == Rows::kPerClass && tensor) return static_cast<std::size_t>(tensor->size(0));
  }
  return 0;
}

/// Whether a head takes over a linear classifier, tried on nothing.
bool adopts(const Head& head, std::int64_t classes, std::int64_t width) {
  State scratch;
  return head.adopt(at::zeros({classes, width}), at::zeros({classes}), scratch);
}

/// The rows that a rank works on, of the batches of an order.
std::vector<std::int64_t> own_rows(const std::vector<std::int64_t>& order, std::int64_t batch, const Ranks& ranks) {
  const auto rows = static_cast<std::int64_t>(order.size());
  std::vector<std::int64_t> own;
  for (std::int64_t begin = 0; begin < rows; begin += batch) {
    const Share share = share_of(std::min(batch, rows - begin), ranks);
    const auto first = order.begin() + begin + share.first;
    own.insert(own.end(), first, first + share.rows);
  }
  return own;
}

Batch narrowed(const Batch& batch, const Share& share) {
  Batch part{{}, share.rows};
  for (const auto& [name, field] : batch.at) part.at[name] = field.narrow(0, share.first, share.rows);
  return part;
}

}  // namespace

Share share_of(std::int64_t whole, const Ranks& ranks) {
  const std::int64_t least = whole / ranks.size(), over = whole % ranks.size(), rank = ranks.rank();
  return {rank * least + std::min(rank, over), least + (rank < over ? 1 : 0), whole};
}

State trained_of(const MethodInfo& plug, const State& state) {
  State trained;
  for (const auto& [name, number] : state)
    if (const Family* family = plug.family(family_of(name)); family && family->trains) trained.set(name, number);
  return trained;
}

void put(const State& numbers, State& state) {
  for (const auto& [name, number] : numbers) state.set(name, number);
}

Learner::Learner(const Model& start, const Task& task, const Sources& sources, const Recipe& recipe,
                 const Budget& budget)
    : model_(start),
      previous_(start),
      task_(task),
      sources_(sources),
      settings_(recipe),
      budget_(budget),
      ranks_(budget.ranks ? *budget.ranks : alone_),
      key_(Key(budget.seed).fold("learn")) {
  model_.numbers() = start.numbers().clone();
}

void Learner::note(const std::string& text) const {
  if (budget_.listener) budget_.listener->note(text);
}

double Learner::seconds() const { return seconds_before_ + seconds_since(start_); }

void Learner::report(const EpochMetrics& metrics) {
  history_.push_back(metrics);
  log_event(LogLevel::kInfo, "epoch.done",
            {{"stage", metrics.stage},
             {"epoch", metrics.epoch},
             {"validation_loss", metrics.validation_loss},
             {"validation_top1", metrics.validation_top1},
             {"ms", 1000 * metrics.seconds}});
  if (budget_.listener) budget_.listener->epoch(metrics);
}

const Source& Learner::source(std::string_view name) const {
  if (name == "train" || name == "train_plain") return *sources_.train;
  if (name == "validation") return *sources_.validation;
  if (name == "unlabelled") return sources_.unlabelled ? *sources_.unlabelled : *sources_.train;
  fail(Code::kNotFound, "[learn] no source '{}': train, train_plain, validation or unlabelled", name);
}

// ---- numbers and parameters ----------------------------------------------------------------------------------------

double Learner::base_rate(const Plug& plug) const {
  if (current_ && current_->phase.rate > 0) return current_->phase.rate;
  if (const auto chosen = budget_.rates.find(plug.alias()); chosen != budget_.rates.end()) return chosen->second;
  if (plug.roles.head) return settings_.head_rate;
  if (settings_.suggested_rates && plug.info->suggested_rate > 0) return plug.info->suggested_rate;
  return settings_.rate;
}

double Learner::rate(const Plug& plug, const Family& family, std::string_view number) const {
  const Slot* slot = slot_of(number, model_.backbone().anatomy());
  return base_rate(plug) * family.rate_scale * plug.method->rate_scale(family.name, slot);
}

void Learner::check_ranks() const {
  if (alone()) return;
  for (const Plug& plug : recipe().plugs()) {
    const char* reason = plug.roles.update && plug.roles.update->drives() ? "drives the step itself"
                         : plug.roles.batch                               ? "makes the rows of a step"
                         : plug.info->has(Claim::kOwnStatistics)          ? "keeps statistics of its batches"
                         : plug.info->has(Need::kWeightGradient)          ? "looks at gradients of whole weights"
                                                                          : nullptr;
    if (reason)
      fail(Code::kUnsupported, "[{}] {}, which several ranks cannot share: learn with one process", plug.alias(),
           reason);
  }
  if (settings_.batch_size < ranks_.size())
    fail(Code::kInvalidArgument, "[ranks] {} ranks cannot share batches of {} rows: take a larger --batch-size",
         ranks_.size(), settings_.batch_size);
}

void Learner::share_numbers() {
  if (alone()) return;
  TensorFile file;
  if (ranks_.first()) pack_all(numbers(), "now", file);
  const std::string bytes = ranks_.broadcast(ranks_.first() ? encode_tensor_file(file) : "");
  if (!ranks_.first()) numbers() = unpack_all(decode_tensor_file(bytes, "rank 0"), "now");
  refresh_params();
}

void Learner::sum_gradients(double& loss) {
  std::vector<float> sums = {static_cast<float>(loss), budget_.stop && budget_.stop->load() ? 1.0f : 0.0f};
  for (const Param& param : params_) {
    const at::Tensor grad = param.value.grad();
    sums.push_back(grad.defined() ? 1 : 0);
    sums.resize(sums.size() + static_cast<std::size_t>(param.value.numel()));
    if (!grad.defined()) continue;
    const at::Tensor flat = grad.to(at::kFloat).contiguous();
    std::copy_n(flat.const_data_ptr<float>(), flat.numel(), sums.end() - flat.numel());
  }
  ranks_.sum(sums);
  step_bytes_ = static_cast<std::int64_t>(sums.size() * sizeof(float));
  loss = sums[0];
  stop_agreed_ = sums[1] > 0;
  std::size_t place = 2;
  for (Param& param : params_) {
    const bool defined = sums[place++] > 0;
    at::Tensor& grad = param.value.mutable_grad();
    grad.reset();
    if (defined)
      grad = at::from_blob(sums.data() + place, param.value.sizes(), at::kFloat)
                 .to(param.value.scalar_type(), /*non_blocking=*/false, /*copy=*/true);
    place += static_cast<std::size_t>(param.value.numel());
  }
}

void Learner::refresh_params() {
  const std::string only = current_ ? current_->phase.params : "";
  params_.clear();
  for (const Plug& plug : recipe().plugs()) {
    for (const Scope scope : {Scope::kTask, Scope::kShared, Scope::kRun}) {
      for (const auto& [name, number] : numbers().at(plug.alias(), scope)) {
        const Family* family = plug.info->family(family_of(name));
        const auto* tensor = std::get_if<at::Tensor>(&number);
        const std::string full = plug.alias() + "." + name;
        if (!family || !family->trains || !tensor || recipe().covered(full)) continue;
        const bool moves = only.empty() || only == plug.alias();
        tensor->set_requires_grad(moves);
        if (!moves) continue;
        const auto frozen = frozen_.find(full);
        params_.push_back({full, plug.alias(), *tensor, frozen == frozen_.end() ? at::Tensor() : frozen->second,
                           born_[full], rate(plug, *family, name), settings_.weight_decay * family->decay_scale});
      }
    }
  }
  params_changed_ = false;
}

at::Tensor Learner::create(const Plug& plug, std::string_view name, at::Tensor init) {
  const Family* family = plug.info->family(family_of(name));
  if (!family) fail(Code::kInvalidArgument, "[{}] '{}' belongs to none of its families", plug.alias(), name);
  State& state = numbers().at(plug.alias(), family->scope);
  if (state.has(name)) fail(Code::kAlreadyExists, "[{}] '{}' is there already", plug.alias(), name);
  if (init.scalar_type() != family->dtype)
    fail(Code::kShapeMismatch, "[{}] '{}' is not of its family's dtype", plug.alias(), name);
  // A copy of its own: it is moved in place, and `init` may be a view of what must stay as it is.
  state.set(std::string(name), init.detach().clone(at::MemoryFormat::Contiguous));
  born_[plug.alias() + "." + std::string(name)] = counters_.step;
  params_changed_ = true;
  return state.tensor(name);
}

void Learner::freeze(const Plug& plug, std::string_view name, at::Tensor rows) {
  frozen_[plug.alias() + "." + std::string(name)] = rows.to(at::kBool);
  params_changed_ = true;
}

void Learner::start_from(std::string_view task) {
  bare_ = false;
  const Model other = other_model("task:" + std::string(task));
  for (const Plug& plug : recipe().plugs()) {
    const State theirs = other.numbers().at(plug.alias(), Scope::kTask).clone();
    for (const auto& [name, number] : theirs) numbers().at(plug.alias(), Scope::kTask).set(name, number);
    RunContext context(*this, plug);
    if (!theirs.empty()) plug.method->continue_task(context);
  }
  params_changed_ = true;
}

Model Learner::other_model(std::string_view which) const {
  if (which == "current") return model_;
  if (which == "previous") return previous_;
  if (which == "backbone") return Model(model_.shared_backbone(), compose({}, model_.backbone().anatomy()), {});
  if (which.starts_with("task:") && budget_.other_task) return budget_.other_task(which.substr(5));
  fail(Code::kNotFound, "[learn] no model '{}': current, previous, backbone or task:NAME", which);
}

Batch Learner::draw(const Plug& plug, std::string_view name) {
  const Source& rows = source(name);
  if (rows.rows() == 0) fail(Code::kNotFound, "[learn] source '{}' is empty", name);
  const std::string cursor_name = fmt::format("{}/{}", plug.alias(), name);
  const Key key = key_.fold("draw").fold(cursor_name);
  std::int64_t& cursor = cursors_[cursor_name];
  const auto first = static_cast<std::uint64_t>(cursor);
  const std::int64_t size = std::min(settings_.batch_size, rows.rows());
  std::vector<std::int64_t> order, chosen;
  for (std::int64_t i = 0; i < size; ++i, ++cursor) {
    const std::int64_t place = cursor % rows.rows();
    if (order.empty() || place == 0)
      order = key.fold("round", static_cast<std::uint64_t>(cursor / rows.rows())).permutation(rows.rows());
    chosen.push_back(order[place]);
  }
  const bool augmented = name == "train" && settings_.augmentation != "none";
  return *rows.open(std::move(chosen), size, augmented, key.fold("augment", first))->next();
}

void Learner::reject(const Plug& plug, const std::string& reason) const {
  fail(Code::kCancelled, "[{}] rejects this run, nothing is stored: {}", plug.alias(), reason);
}

// ---- stages --------------------------------------------------------------------------------------------------------

void Learner::begin() {
  bare_ =
      numbers().plugs().empty() && std::all_of(recipe().plugs().begin(), recipe().plugs().end(),
                                               [](const Plug& plug) { return plug.info->has(Claim::kNeutralStart); });
  for (const Plug& plug : recipe().plugs()) {
    RunContext context(*this, plug);
    // A task that goes on from its own numbers (another round, another visit) has begun already.
    if (numbers().at(plug.alias(), Scope::kTask).empty())
      plug.method->begin_task(context);
    else
      plug.method->continue_task(context);
    refresh_params();
  }
  for (const Plug& plug : recipe().plugs()) {
    if (!plug.roles.head) continue;
    RunContext context(*this, plug);
    std::vector<std::int64_t> columns(task_.labels.size());
    std::iota(columns.begin(), columns.end(), 0);
    columns.erase(columns.begin(), columns.begin() + std::min(known_columns(plug, numbers()), columns.size()));
    if (!columns.empty()) plug.roles.head->grow(columns, context);
  }
  refresh_params();
}

/// What is to be stored of a state: not the numbers that another plug-in's rule makes.
State Learner::own_numbers(const std::string& plug, const State& state) const {
  State own = state.clone();
  for (const auto& [name, number] : state)
    if (recipe().covered(plug + "." + name)) own.erase(name);
  return own;
}

Evaluation Learner::validate() {
  return evaluate(model_, *sources_.validation, static_cast<std::int64_t>(task_.labels.size()), settings_.bf16,
                  budget_.stop, nullptr, &ranks_);
}

void Learner::give_feedback(const Evaluation& validation) {
  const Values values{{"top1", validation.top1}, {"top5", validation.top5}, {"loss", validation.loss}};
  for (const Plug& plug : recipe().plugs()) {
    RunContext context(*this, plug);
    plug.method->feedback(values, context);
  }
}

void Learner::consider(const std::string& stage, Evaluation validation) {
  Numbers kept;
  for (const auto& [plug, scopes] : numbers().plugs())
    for (const auto& [scope, state] : scopes) {
      if (in_use(scope)) kept.at(plug, scope) = state.clone();
      if (scope == Scope::kRun) kept.at(plug, scope) = trained_of(*recipe().plug(plug).info, state).clone();
    }
  for (Candidate& candidate : candidates_) {
    if (candidate.stage != stage) continue;
    if (better(validation, candidate.validation))
      candidate = {stage, std::move(kept), std::move(validation), counters_.epoch};
    return;
  }
  candidates_.push_back({stage, std::move(kept), std::move(validation), counters_.epoch});
}

void Learner::restore(const Candidate& candidate) {
  for (auto& [plug, scopes] : numbers().plugs())
    for (auto& [scope, state] : scopes)
      if (in_use(scope)) state = {};
  for (const auto& [plug, scopes] : candidate.numbers.plugs())
    for (const auto& [scope, state] : scopes)
      if (in_use(scope))
        numbers().at(plug, scope) = state.clone();
      else
        put(state.clone(), numbers().at(plug, scope));  // beside what an optimiser keeps there
  refresh_params();
}

bool Learner::learns_beside_head() const {
  const auto keeps_numbers = [&](const Plug& plug) {
    const Numbers& numbers = model_.numbers();
    return !numbers.at(plug.alias(), Scope::kTask).empty() || !numbers.at(plug.alias(), Scope::kShared).empty();
  };
  return std::any_of(recipe().plugs().begin(), recipe().plugs().end(),
                     [&](const Plug& plug) { return !plug.roles.head && keeps_numbers(plug); });
}

FeatureTable Learner::features_of(const Source& source, Listener* listener) {
  if (alone() && bare_ && budget_.bare_features)
    if (auto kept = budget_.bare_features(source, settings_.bf16)) return std::move(*kept);
  return extract_features(model_, source, settings_.bf16, budget_.stop, listener, &ranks_);
}

void Learner::fit_head(const std::string& stage) {
  const auto start = Clock::now();
  const Plug& head = recipe().head();
  if (!adopts(*head.roles.head, static_cast<std::int64_t>(task_.labels.size()), model_.backbone().feature_width()))
    return note(fmt::format("{}: '{}' takes over no linear classifier: none is fitted", stage, head.alias()));
  if (budget_.listener) budget_.listener->stage(stage, evaluation_batches(*sources_.train));
  const FeatureTable train = features_of(*sources_.train, budget_.listener);
  const FeatureTable held_out = features_of(*sources_.validation, nullptr);
  note(fmt::format("{}: features of {} images, {:.1f} MB", stage, train.features.size(0) + held_out.features.size(0),
                   static_cast<double>(train.features.nbytes() + held_out.features.nbytes()) / 1e6));
  LinearClassifier fitted;
  if (ranks_.first()) {
    fitted = fit_logistic(train, held_out, static_cast<std::int64_t>(task_.labels.size()));
    head.roles.head->adopt(fitted.weight, fitted.bias, numbers().at(head.alias(), head.info->class_scope()));
    refresh_params();
  }
  share_numbers();
  Evaluation validation = validate();
  EpochMetrics metrics{.stage = stage, .epoch = counters_.epoch};
  metrics.validation_loss = validation.loss;
  metrics.validation_top1 = validation.top1;
  metrics.seconds = seconds_since(start);
  report(metrics);
  note(fmt::format("{}: strength {} chosen on {} validation images", stage, fitted.strength, validation.rows));
  consider(stage, std::move(validation));
}

void Learner::train_step(Batch batch, const Share& share, EpochSums& sums) {
  if (params_changed_) refresh_params();
  for (const Plug& plug : recipe().plugs()) {
    if (!plug.roles.batch) continue;
    RunContext context(*this, plug);
    batch = plug.roles.batch->shape(std::move(batch), context);
  }
  TrainingStep step(*this, std::move(batch), share);
  bool moved = true;
  if (const Plug* driver = recipe().driver()) {
    moved = step.drive(*driver);
  } else {
    const auto loss = step.optimise();
    moved = loss.has_value();
    sums.loss += loss.value_or(0);
  }
  if (moved) {
    step.apply_emissions();
    for (const Plug& plug : recipe().plugs()) {
      if (!plug.roles.batch) continue;
      RunContext context(*this, plug);
      plug.roles.batch->keep(step.rows(), context);
    }
  } else {
    ++sums.skipped;
  }
  ++counters_.step;
  ++sums.steps;
}

void Learner::train(const std::string& stage, std::int64_t epochs, const Source& rows, bool augmented,
                    const std::function<void(EpochMetrics&)>& after_epoch) {
  if (epochs > 0 && !recipe().primary_loss() && !recipe().driver())
    fail(Code::kInvalidArgument, "[learn] no plug-in of this recipe gives the loss: name one with the recipe");
  const std::int64_t per_epoch = (rows.rows() + settings_.batch_size - 1) / settings_.batch_size;
  counters_.total_epochs = epochs;
  counters_.total_steps = epochs * per_epoch;
  refresh_params();
  if (budget_.listener) budget_.listener->stage(stage, counters_.total_steps);
  const Key key = key_.fold(stage, static_cast<std::uint64_t>(counters_.phase));
  while (counters_.epoch < epochs) {
    const auto start = Clock::now();
    const auto epoch = static_cast<std::uint64_t>(counters_.epoch);
    std::vector<std::int64_t> order = key.fold("order", epoch).permutation(rows.rows());
    order.erase(order.begin(), order.begin() + std::min(steps_in_epoch_ * settings_.batch_size, rows.rows()));
    auto left = static_cast<std::int64_t>(order.size());
    const auto stream = rows.open(own_rows(order, settings_.batch_size, ranks_),
                                  share_of(settings_.batch_size, ranks_).rows, augmented, key.fold("augment", epoch));
    for (; left > 0; left -= std::min(left, settings_.batch_size)) {
      const Share share = share_of(std::min(left, settings_.batch_size), ranks_);
      Batch batch = share.rows > 0 ? stream->next().value() : Batch();
      RECAST_ASSERT(batch.rows == share.rows);
      try {
        train_step(std::move(batch), share, sums_);
      } catch (const RanksParted&) {
        save_checkpoint();  // nothing has moved since the step before
        throw;
      }
      ++steps_in_epoch_;
      if (budget_.listener) budget_.listener->step(counters_.step, counters_.total_steps);
      if (stop_asked()) {
        save_checkpoint();
        fail(Code::kCancelled, "[learn] stopped on request");
      }
    }
    const Plug* schedule = recipe().schedule();
    EpochMetrics metrics{.stage = stage, .epoch = counters_.epoch};
    metrics.train_loss = sums_.loss / static_cast<double>(std::max<std::int64_t>(sums_.steps - sums_.skipped, 1));
    metrics.skipped_steps = sums_.skipped;
    if (!params_.empty())
      metrics.rate =
          params_.front().rate *
          (schedule ? schedule->roles.update->rate(params_.front().group, params_.front().born_step, counters_) : 1);
    ++counters_.epoch;
    steps_in_epoch_ = 0;
    sums_ = {};
    share_numbers();
    after_epoch(metrics);
    metrics.seconds = seconds_since(start);
    report(metrics);
    save_checkpoint();
  }
}

void Learner::train_main() {
  bare_ = false;
  const auto judge = [&](EpochMetrics& metrics) {
    Evaluation validation = validate();
    metrics.validation_loss = validation.loss;
    metrics.validation_top1 = validation.top1;
    give_feedback(validation);
    consider("train", std::move(validation));
  };
  train("train", settings_.epochs, *sources_.train, settings_.augmentation != "none", judge);
  for (const Candidate& candidate : candidates_)
    if (candidate.stage == "train") return restore(candidate);
}

void Learner::finish_phase() {
  const Current current = *current_;
  const Plug& plug = recipe().plug(current.plug);
  const bool augmented = current.phase.source == "train" && settings_.augmentation != "none";
  train(current.phase.name, current.phase.epochs, source(current.phase.source), augmented, [](EpochMetrics&) {});
  current_.reset();
  RunContext context(*this, plug);
  plug.method->end_phase(current.phase, context);
  counters_.step = counters_.epoch = 0;
  refresh_params();
  share_numbers();
}

bool Learner::visit(const Plug& plug, const Batch& batch, const Fields& out) {
  RunContext context(*this, plug);
  // A base head sees what it stands on: its own answers, of which it may have none yet, are not asked for.
  const bool below = plug.roles.head && !plug.roles.head->corrects();
  if (plug.roles.head)
    plug.roles.head->observe(out, below ? Fields() : out, batch, numbers().at(plug.alias(), plug.info->class_scope()));
  return plug.method->visit(batch, out, context);
}

void Learner::visit_outputs(const Plug& plug, const Phase& phase, const Source& rows, bool& more) {
  constexpr std::string_view kColumn = "column/", kOut = "out/";
  const bool below = plug.roles.head && !plug.roles.head->corrects();
  Run run;
  run.dtype = dtype();
  run.taps = phase.taps;
  const auto compute = [&](const Batch& batch) {
    Fields result;
    if (!more) return result;
    for (const auto& [name, field] : below ? model_.inputs_of_heads(batch, run) : model_.forward(batch, run))
      result[std::string(kOut) + name] = field;
    for (const auto& [name, column] : batch.at)
      if (alone() || name != "input") result[std::string(kColumn) + name] = column;
    result["rows"] = at::scalar_tensor(batch.rows, at::kLong);
    return result;
  };
  for_each_result(rows, &ranks_, budget_.stop, budget_.listener, compute, [&](const Fields& result) {
    if (!more) return;
    Batch batch;
    Fields out;
    for (const auto& [name, field] : result)
      if (name.starts_with(kOut))
        out[name.substr(kOut.size())] = field;
      else if (name.starts_with(kColumn))
        batch.at[name.substr(kColumn.size())] = field;
    batch.rows = result.at("rows").item<std::int64_t>();
    more = visit(plug, batch, out);
    ++counters_.step;
  });
}

void Learner::visit_gradients(const Plug& plug, const Phase& phase, const Source& rows, bool& more) {
  for_each_batch(rows, budget_.stop, budget_.listener, [&](const Batch& batch) {
    if (!more) return;
    if (params_changed_) refresh_params();
    const Share share = share_of(batch.rows, ranks_);
    TrainingStep step(*this, alone() ? batch : narrowed(batch, share), share, phase.taps);
    bool finite = false;
    {
      const c10::AutoGradMode graph(true);
      finite = step.backward().has_value();
    }
    if (finite) more = visit(plug, batch, share.rows > 0 ? step.out() : Fields());
    step.clear();
    ++counters_.step;
  });
}

void Learner::run_phase(const Plug& plug, const Phase& phase) {
  bare_ = false;
  ++counters_.phase;
  counters_.step = counters_.epoch = 0;
  if (phase.trains) {
    current_ = {plug.alias(), phase};
    return finish_phase();
  }
  if (phase.gradients && !recipe().primary_loss())
    fail(Code::kInvalidArgument, "[{}] looks at gradients, and no plug-in of this recipe gives the loss: name one",
         plug.alias());
  const Source& rows = source(phase.source);
  if (budget_.listener) budget_.listener->stage(phase.name, evaluation_batches(rows));
  bool more = true;
  for (std::int64_t epoch = 0; epoch < phase.epochs && more; ++epoch, ++counters_.epoch) {
    if (phase.gradients)
      visit_gradients(plug, phase, rows, more);
    else
      visit_outputs(plug, phase, rows, more);
  }
  RunContext context(*this, plug);
  plug.method->end_phase(phase, context);
  counters_.step = counters_.epoch = 0;
  refresh_params();
  share_numbers();
}

bool Learner::run_phases(When when) {
  bool any = current_.has_value();
  if (current_) finish_phase();
  for (const Plug& plug : recipe().plugs()) {
    RunContext context(*this, plug);
    while (const auto phase = plug.method->next_phase(when, context)) {
      run_phase(plug, *phase);
      any = true;
    }
  }
  return any;
}

bool Learner::run_main_phases() {
  const std::string resumed = current_ ? current_->plug : "";
  bool any = current_.has_value();
  if (current_) finish_phase();
  for (const Plug& plug : recipe().plugs()) {
    RunContext context(*this, plug);
    bool own = plug.alias() == resumed;
    while (const auto phase = plug.method->next_phase(When::kMain, context)) {
      if (any && !own)
        fail(Code::kInvalidArgument, "[compose] '{}' and another plug-in both bring main phases", plug.alias());
      any = own = true;
      run_phase(plug, *phase);
    }
  }
  return any;
}

const Candidate& Learner::best_candidate() const {
  const Candidate* best = &candidates_.front();
  for (const Candidate& candidate : candidates_)
    if (better(candidate.validation, best->validation)) best = &candidate;
  return *best;
}

void Learner::run_main() {
  if (!run_main_phases() && (learns_beside_head() || !settings_.fit_head)) {
    train_main();
    if (settings_.fit_head) fit_head("refit");
  }
  if (candidates_.empty()) consider("last", validate());
  restore(best_candidate());
  counters_.step = counters_.epoch = 0;
}

bool Learner::end_task() {
  const Numbers task = numbers().only(Scope::kTask).clone(), shared = numbers().only(Scope::kShared).clone();
  for (const Plug& plug : recipe().plugs()) {
    RunContext context(*this, plug);
    plug.method->end_task(context);
  }
  return !equal(task, numbers().only(Scope::kTask)) || !equal(shared, numbers().only(Scope::kShared));
}

Learned Learner::run() {
  check_ranks();
  share_numbers();
  if (!alone()) previous_.numbers() = numbers().clone();
  if (!budget_.resume || !load_checkpoint()) begin();
  share_numbers();
  if (place_ == Place::kBefore) {
    run_phases(When::kBefore);
    place_ = Place::kHead;
  }
  if (place_ == Place::kHead) {
    if (!current_) {  // else a checkpoint of one of the phases below is gone on from
      if (settings_.fit_head) fit_head("head");
      if (learns_beside_head()) give_feedback(candidates_.empty() ? validate() : candidates_.back().validation);
    }
    run_phases(When::kFitted);
    place_ = Place::kMain;
    save_checkpoint();
  }
  if (place_ == Place::kMain) {
    run_main();
    place_ = Place::kAfter;
    save_checkpoint();
  }
  Candidate kept = best_candidate();
  const bool moved_after = run_phases(When::kAfter), changed = end_task();
  if (moved_after || changed) {
    const double before = kept.validation.top1;
    kept.validation = validate();
    note(fmt::format("end: validation top1 {:.4f} of what is stored, {:.4f} before", kept.validation.top1, before));
  }
  Learned learned{model_, kept.stage, {}, history_, kept.validation, seconds(), kept.epoch, step_bytes_};
  for (const Candidate& candidate : candidates_)
    learned.candidates.emplace_back(candidate.stage, candidate.validation.top1);
  learned.model.numbers() = {};
  for (const auto& [plug, scopes] : numbers().plugs())
    for (const auto& [scope, state] : scopes)
      if (in_use(scope) && !state.empty()) learned.model.numbers().at(plug, scope) = own_numbers(plug, state);
  return learned;
}

Learned learn(const Model& start, const Task& task, const Sources& sources, const Recipe& recipe,
              const Budget& budget) {
  return Learner(start, task, sources, recipe, budget).run();
}

}  // namespace recast
