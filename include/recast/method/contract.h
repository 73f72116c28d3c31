#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "recast/base/key.h"
#include "recast/base/options.h"
#include "recast/method/state.h"
#include "recast/model/anatomy.h"

/// The plug-in contract. Four rules: a plug-in holds options only, its numbers are States outside of it, and every
/// virtual is const; a forward pass changes nothing (what must change is emitted and applied by the loop); randomness
/// is a function of a Key; the backbone is never written. docs/design.md says why, docs/adding-a-method.md how.
///
/// Shapes: B batch rows, C classes, D feature width, n templates, K coefficient sets.
namespace recast {

class Model;
class Pass;
class View;

/// Rows to run the model on. Columns with reserved names: "input" [B,3,S,S] fp32, "features" [B,D] (enters at the
/// feature slot, the backbone is not run), "label" [B] int64, "weight" [B] fp32, "mask", "target" [B,C] fp32 (soft
/// labels), "task" [B], "sample" [B] int64 (stable row id), "domain", "group". Source "unlabelled" has no "label".
struct Batch {
  Fields at;
  std::int64_t rows = 0;

  const at::Tensor& column(std::string_view name) const;  ///< throws kNotFound naming the columns that there are
  bool has(std::string_view name) const { return at.find(name) != at.end(); }
};

enum class Mode { kTrain, kEvaluate };

/// How a family's numbers are pooled in merging and federation.
enum class Pool { kDelta, kMean, kSum, kKeep };
/// What a family's dimension 0 counts.
enum class Rows { kFixed, kPerClass, kPerTask, kPerSample, kGrows };

/// A kind of number that a plug-in keeps, declared beside its options; shapes come with create(). What trains in kRun
/// (scores of which only a decision is stored) belongs to the best epoch as the stored numbers do: end_task() sees it.
struct Family {
  std::string name;
  Scope scope = Scope::kTask;
  bool trains = true;
  Rows rows = Rows::kFixed;
  Pool pool = Pool::kDelta;
  at::ScalarType dtype = at::kFloat;
  double rate_scale = 1.0;   ///< factor on the learning rate
  double decay_scale = 1.0;  ///< factor on the weight decay; 0 forbids it
};

struct Task {
  std::string name;
  std::vector<std::string> labels;  ///< C texts; column c of the head's logits stands for labels[c]
};

struct Counters {
  std::int64_t step = 0, epoch = 0, phase = 0;  ///< done so far in this phase
  std::int64_t total_steps = 0, total_epochs = 0;
};

/// A trainable tensor as update rules see it.
struct Param {
  std::string name;   ///< "plug.family@slot#key"
  std::string group;  ///< the plug-in's alias
  at::Tensor value;   ///< leaf; .grad() holds the gradient after backward
  at::Tensor frozen;  ///< bool mask over rows that must not move, or undefined
  std::int64_t born_step = 0;
  double rate = 0;   ///< base learning rate of this tensor, before the schedule's factor
  double decay = 0;  ///< weight decay (decoupled), before the rate
};

/// What a name declared by a plug-in reads, with rules on kParam slots applied. Valid for the call it is handed to.
class View {
 public:
  View(const Numbers& numbers, std::string_view plug, std::span<const Family> families, std::string_view slot,
       Pass* pass)
      : numbers_(numbers), plug_(plug), families_(families), slot_(slot), pass_(pass) {}
  /// The tensor "family@SLOT#key" of this plug-in at the slot at hand. Throws kNotFound.
  at::Tensor operator()(std::string_view family, std::string_view key = {}) const;
  bool has(std::string_view family, std::string_view key = {}) const;
  /// The same without a slot: numbers that belong to the whole model.
  at::Tensor global(std::string_view family, std::string_view key = {}) const;
  /// `value` in place of the number "family@SLOT", rules on it applied: for one that is stored in another form.
  at::Tensor with_rules(std::string_view family, const at::Tensor& value) const;
  /// All numbers of one scope.
  const State& state(Scope scope) const { return numbers_.at(plug_, scope); }

 private:
  at::Tensor read(std::string_view family, std::string_view slot, std::string_view key) const;
  const Family& family(std::string_view name) const;
  const Numbers& numbers_;
  std::string_view plug_;
  std::span<const Family> families_;
  std::string_view slot_;
  Pass* pass_;
};

/// One forward call over rows that share all numbers; dies with it. Not for use from several threads.
class Pass {
 public:
  virtual ~Pass() = default;
  virtual const Batch& batch() const = 0;
  virtual Mode mode() const = 0;
  /// Of this pass: the step's key in training.
  virtual Key key() const = 0;
  virtual std::int64_t step() const = 0;
  /// False: emits and losses of this pass are dropped.
  virtual bool learns() const = 0;
  /// The effective weight of a slot, whole chain, fp32.
  virtual at::Tensor weight(std::string_view slot) = 0;
  /// Another plug-in's or one's own tensor "family@slot" after the rules on its kParam slot.
  virtual at::Tensor param(std::string_view plug, std::string_view name, const at::Tensor& own) = 0;
  /// The next value of an untrained tensor "family@slot" of the plug-in at hand; applied by the loop after the step.
  virtual void emit(std::string_view name, at::Tensor value) = 0;
  /// A scalar that adds to the objective.
  virtual void add_loss(std::string_view name, at::Tensor scalar) = 0;
  /// Computed once in a pass, shared by whoever asks by the same name.
  virtual at::Tensor once(std::string_view name, const std::function<at::Tensor()>& compute) = 0;
};

/// A training phase or a pass over data that a plug-in asks for. Empty fields: the recipe's choice.
struct Phase {
  std::string name;
  std::string source = "train";   ///< train | train_plain (no augmentation) | validation | unlabelled
  std::string params;             ///< plug-in alias whose parameters train; empty: all
  std::vector<std::string> taps;  ///< slots whose outputs come as "tap.SLOT"
  bool trains = false;
  std::int64_t epochs = 1;
  double rate = 0;  ///< 0: the recipe's
  /// Of a pass that does not train: visit() finds in params() the gradients of the whole objective on its batch, taken
  /// in evaluation mode. A batch where they are not finite is left out.
  bool gradients = false;
};
/// Before anything is learned; before the recipe's epochs, once the head is fitted where the recipe fits it; in place
/// of the recipe's epochs; after them.
enum class When { kBefore, kFitted, kMain, kAfter };

using Values = std::map<std::string, double>;

/// What a plug-in may reach outside a forward pass, bound to the plug-in that it is handed to.
class Context {
 public:
  virtual ~Context() = default;
  virtual const Task& task() const = 0;
  virtual const Anatomy& anatomy() const = 0;
  virtual std::int64_t feature_width() const = 0;
  virtual Key key() const = 0;  ///< of this plug-in in this run, the same at every call
  virtual const Counters& at() const = 0;
  virtual std::span<Param> params() = 0;
  /// A reference into the run, valid for the call.
  virtual State& own(Scope scope) = 0;
  /// Puts a new number of a declared family in place at any step; trained if its family trains (then the loop's
  /// optimiser sees it from the next step on). Returns it. Throws kAlreadyExists, kInvalidArgument (no such family).
  virtual at::Tensor create(std::string_view name, at::Tensor init) = 0;
  /// Rows of a trained tensor that must not move, whatever the optimiser does: bool [rows].
  virtual void freeze(std::string_view name, at::Tensor rows) = 0;
  /// Starts from a copy of another task's numbers of all plug-ins. Numbers that two tasks go on sharing are kShared
  /// ones, under a key of their group. Throws kNotFound.
  virtual void start_from(std::string_view task) = 0;
  /// "current", "previous" (as the run began), "backbone", "task:NAME". Throws kNotFound.
  virtual Model model(std::string_view which) = 0;
  /// The next batch of "train" or "validation", with a cursor of this plug-in's own. Throws kNotFound.
  virtual Batch draw(std::string_view source) = 0;
  /// Do not commit this run; keep the old numbers. The run ends with kCancelled and this reason.
  virtual void reject(std::string reason) = 0;
};

/// One training step, as loss terms and update rules see it.
class Step {
 public:
  virtual ~Step() = default;
  virtual Context& context() = 0;
  virtual const Batch& batch() const = 0;
  /// The training forward, run on first use, shared by all terms: "features", "logits".
  virtual const Fields& out() = 0;
  /// The whole objective on these or other rows, with graph.
  virtual at::Tensor loss(const Batch& rows) = 0;
  /// d scalar / d each param of a plug-in ("" for all), undefined where it does not enter; leaves .grad alone.
  virtual std::vector<at::Tensor> grad(const at::Tensor& scalar, std::string_view plug, bool twice) = 0;
  /// After backward: gradient of what this plug-in's weight() returned at the slot. Needs kWeightGradient declared.
  virtual at::Tensor weight_grad(std::string_view slot) = 0;
  /// What update() would add to each param, clipping and frozen rows included, hooks not; changes nothing.
  virtual std::vector<at::Tensor> preview() = 0;
  /// Clip, before_step hooks, apply, frozen rows back, after_step hooks, gradients cleared. For drivers.
  virtual void update() = 0;
};

// ---- roles: a plug-in takes one or several -------------------------------------------------------------------------

/// Order of weight rules on one slot. kSource makes the weight, kTransform maps it, kAdd adds to it, kQuantise is last.
enum class Stage { kSource, kTransform, kAdd, kQuantise };

class WeightRule {
 public:
  using Next = std::function<at::Tensor(const at::Tensor&)>;
  virtual ~WeightRule() = default;
  virtual Stage stage() const = 0;
  /// The slot's weight after this rule: shape of slot, fp32. `w` is not written; undefined for kSource.
  virtual at::Tensor weight(const Slot& slot, const at::Tensor& w, const View& numbers, Pass& pass) const = 0;
  /// The same effect on a product, cheaper: next(x) is the product before this rule. Used where every later rule of
  /// the slot has it too; nothing: not offered.
  virtual std::optional<at::Tensor> product(const Slot& slot, const at::Tensor& x, const Next& next,
                                            const View& numbers, Pass& pass) const {
    return {};
  }
};

/// Beside or instead of what stands at an activation, norm or feature slot.
class Branch {
 public:
  using Next = std::function<at::Tensor(const at::Tensor&)>;
  virtual ~Branch() = default;
  /// True: next is never called (two that replace one slot are refused).
  virtual bool replaces() const { return false; }
  virtual at::Tensor around(const Slot& slot, const at::Tensor& x, const Next& next, const View& numbers,
                            Pass& pass) const = 0;
};

/// From features (and taps) to outputs. A corrector is a head above another one.
class Head {
 public:
  virtual ~Head() = default;
  virtual bool corrects() const { return false; }
  /// in: "features" [B, D] fp32, "tap.SLOT". Returns "logits" [B, C] or what the head gives. below: what the head that
  /// this one corrects returned, else null.
  virtual Fields forward(const Fields& in, const Fields* below, const View& numbers, Pass& pass) const = 0;
  /// New columns (dense class numbers, ascending), those beyond the rows of its families with a row a class; old ones
  /// stay bit-equal.
  virtual void grow(std::span<const std::int64_t> columns, Context& context) const {}
  /// Takes over a linear classifier, weight [C, D] and bias [C]. False: this head is not linear.
  virtual bool adopt(const at::Tensor& weight, const at::Tensor& bias, State& own) const { return false; }
  /// Learning without gradient from one batch's features and truth, in each batch of a phase of this plug-in that does
  /// not train. base_out: of a corrector, what the head below gave; else empty. own: the state that holds the head's
  /// classes (MethodInfo::class_scope()); its tensors may be written in place.
  virtual void observe(const Fields& in, const Fields& base_out, const Batch& truth, State& own) const {}
  /// [C, D], one vector a class, where the head has such.
  virtual std::optional<at::Tensor> class_rows(const State& own) const { return {}; }
};

/// A part of the objective. Exactly one primary per recipe; the others add.
class LossTerm {
 public:
  virtual ~LossTerm() = default;
  virtual bool primary() const { return false; }
  /// fp32 scalar with graph. Never calls backward. Rows of weight 0 do not matter.
  virtual at::Tensor loss(const Batch& batch, const Fields& out, Step& step) const = 0;
};

/// How numbers move. Small virtuals, since drivers, optimisers, hooks and schedules meet in one recipe.
class UpdateRule {
 public:
  virtual ~UpdateRule() = default;
  virtual bool drives() const { return false; }
  /// A driver does the whole step, with or without autograd, and calls step.update() if it sets gradients.
  virtual void drive(Step& step) const {}
  virtual bool schedules() const { return false; }
  /// Factor on the base rate of a group. Pure in its arguments.
  virtual double rate(std::string_view group, std::int64_t born_step, const Counters& at) const { return 1.0; }
  virtual void after_backward(Step& step) const {}
  virtual void before_step(Step& step) const {}
  virtual void after_step(Step& step) const {}
  /// Whether apply() moves this parameter. A parameter taken twice or by none is an error.
  virtual bool takes(const Param& param) const { return false; }
  /// Moves params in place by their gradients. factors[i]: the schedule's for params[i].
  virtual void apply(std::span<Param> params, std::span<const double> factors, Step& step) const {}
};

/// Makes the rows of a step: replay, mixing, filtering, generation.
class BatchRule {
 public:
  virtual ~BatchRule() = default;
  virtual Batch shape(Batch in, Context& context) const = 0;
  /// After the update: what of the stream to keep.
  virtual void keep(const Batch& stream, Context& context) const {}
};

/// Which roles a plug-in takes; null: not taken. The same for the plug-in's life.
struct Roles {
  const WeightRule* weight = nullptr;
  const Branch* branch = nullptr;
  const Head* head = nullptr;
  const LossTerm* loss = nullptr;
  const UpdateRule* update = nullptr;
  const BatchRule* batch = nullptr;
};

/// A plug-in: options and const functions. Threads: all calls in parallel.
class Method {
 public:
  virtual ~Method() = default;
  /// Default: every role interface that the plug-in itself derives from.
  virtual Roles roles() const;
  /// Names of the slots it acts on: weight, vector and kParam slots for the weight rule, the others for the branch.
  virtual std::vector<std::string> slots(const Anatomy&) const { return {}; }
  /// Slots whose outputs its head or loss wants to see as "tap.SLOT".
  virtual std::vector<std::string> taps(const Anatomy&) const { return {}; }
  /// Creates the task's numbers, before any data is read. Not called where the task goes on from numbers of its own.
  virtual void begin_task(Context&) const {}
  /// In place of begin_task() where the task goes on from numbers of its own, and after start_from(): what end_task()
  /// stored in another form becomes what trains.
  virtual void continue_task(Context&) const {}
  /// Once all is learned. What it leaves in the task's state is stored; where it changes a number, the validation
  /// figures are measured again, so that those reported are of what is stored.
  virtual void end_task(Context&) const {}
  /// How many numbers a task has learned, whatever the form in which they are stored. Nothing: the elements of the
  /// families that train (of a head: of all).
  virtual std::optional<std::int64_t> learned_numbers(const State& task) const { return {}; }
  /// False: it draws nothing, so that its numbers are the same whatever the seed.
  virtual bool draws() const { return true; }
  /// Factor on the learning rate of a number, beside its family's. slot: null for a number without one.
  virtual double rate_scale(std::string_view family, const Slot* slot) const { return 1; }
  /// Bytes of its numbers in a task file. Default: those of its task and shared states.
  virtual std::int64_t stored_bytes(const State& task) const { return task.bytes(); }
  /// Asked until it answers nothing; the cursor is the plug-in's state.
  virtual std::optional<Phase> next_phase(When, Context&) const { return {}; }
  /// Each batch of a phase that does not train; false ends the phase. out: features and taps; of a plug-in that is no
  /// base head, what the heads give as well.
  virtual bool visit(const Batch&, const Fields& out, Context&) const { return true; }
  virtual void end_phase(const Phase&, Context&) const {}
  /// Validation values after each epoch and once before step 1.
  virtual void feedback(const Values& validation, Context&) const {}
};

}  // namespace recast
