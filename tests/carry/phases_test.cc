// Phases, generated rows, statistics: MOS, an analytic head, AdaB2N, federated averaging.
#include "carry/carry_case.h"

namespace recast {
namespace {

// ---- MOS: adapters pulled to the earlier ones, class moments, a head aligned on generated features -----------------

std::vector<std::string> phases_seen;
std::vector<at::Tensor> adapter_rows;
double worst_pull = 0;
bool mixed_up_params = false;

class Surgery final : public Method, public Branch, public UpdateRule, public BatchRule {
 public:
  explicit Surgery(NoOptions) {}
  std::vector<std::string> slots(const Anatomy&) const override { return {kSlot}; }
  void begin_task(Context& context) const override {
    const Slot& slot = context.anatomy().at(kSlot);
    const Model before = context.model("previous");
    const State& shared = before.numbers().at("test-mos", Scope::kShared);
    context.create(kUp, shared.has("sum") ? shared.tensor("sum") : at::zeros({slot.shape[0], 4}));
    context.create("down@blocks.1.mlp", context.key().fold("down").normal({4, slot.shape[0]}) * 0.2);
    context.freeze(kUp, at::arange(slot.shape[0]).lt(3));
    context.own(Scope::kRun).set("cursor", std::int64_t{0});
  }
  at::Tensor around(const Slot&, const at::Tensor& x, const Next& next, const View& numbers, Pass&) const override {
    return next(x) + 0.1 * at::linear(at::relu(at::linear(x, numbers("down"))), numbers("up"));
  }
  void after_step(Step& step) const override {
    if (step.context().own(Scope::kRun).integer("cursor") > 1) {  // the head is being aligned
      for (const Param& param : step.context().params())
        mixed_up_params = mixed_up_params || param.group != "linear-probe";
      return;
    }
    const State& shared = step.context().own(Scope::kShared);
    at::Tensor up = step.context().own(Scope::kTask).tensor(kUp);
    adapter_rows.push_back(up.detach().clone());
    if (!shared.has("sum")) return;
    const at::Tensor wanted = 0.9 * up + 0.1 * shared.tensor("sum");
    up.copy_(wanted);
    worst_pull = std::max(worst_pull, (up - wanted).abs().max().item<double>());
  }
  std::optional<Phase> next_phase(When when, Context& context) const override {
    const std::int64_t cursor = context.own(Scope::kRun).integer("cursor");
    if (when == When::kBefore && cursor == 0) return phase("look", false, {"blocks.0"});
    if (when == When::kAfter && cursor == 1) return phase("moments", false, {});
    if (when == When::kAfter && cursor == 2) {
      Phase align = phase("align", true, {});
      align.params = "linear-probe";
      align.rate = 0.005;
      return align;
    }
    return {};
  }
  bool visit(const Batch& batch, const Fields& out, Context& context) const override {
    State& run = context.own(Scope::kRun);
    if (run.integer("cursor") == 0) {
      run.set("looked", out.at("tap.blocks.0").mean().item<double>());
      return false;  // one batch will do
    }
    const at::Tensor hot =
        at::one_hot(batch.column("label"), static_cast<std::int64_t>(context.task().labels.size())).to(at::kDouble);
    add(context.own(Scope::kShared), "moment", at::matmul(hot.t(), out.at("features").to(at::kDouble)));
    add(context.own(Scope::kShared), "count", hot.sum(0));
    return true;
  }
  void end_phase(const Phase& done, Context& context) const override {
    phases_seen.push_back(done.name);
    State& run = context.own(Scope::kRun);
    run.set("cursor", run.integer("cursor") + 1);
  }
  Batch shape(Batch in, Context& context) const override {
    if (context.own(Scope::kRun).integer("cursor") != 2) return in;
    const State& shared = context.own(Scope::kShared);
    const at::Tensor mean = shared.tensor("moment") / shared.tensor("count").unsqueeze(1);
    Batch drawn{{}, 2 * mean.size(0)};
    drawn.at["label"] = at::arange(mean.size(0)).repeat({2});
    const Key key = context.key().fold("draw", static_cast<std::uint64_t>(context.at().step));
    drawn.at["features"] = mean.to(at::kFloat).repeat({2, 1}) + 0.1 * key.normal({drawn.rows, mean.size(1)});
    return drawn;
  }
  void end_task(Context& context) const override {
    add(context.own(Scope::kShared), "sum", context.own(Scope::kTask).tensor(kUp).detach());
  }

 private:
  static constexpr const char* kSlot = "blocks.1.mlp";
  static constexpr const char* kUp = "up@blocks.1.mlp";
  static Phase phase(std::string name, bool trains, std::vector<std::string> taps) {
    Phase phase;
    phase.name = std::move(name);
    phase.source = trains ? "train" : "train_plain";
    phase.trains = trains;
    phase.taps = std::move(taps);
    return phase;
  }
  static void add(State& state, const std::string& name, const at::Tensor& more) {
    state.set(name, state.has(name) ? state.tensor(name) + more : more.clone());
  }
};
const bool kSurgery =
    describe<Surgery, NoOptions>("test-mos")
        .families(
            {{.name = "up"},
             {.name = "down"},
             {.name = "sum", .scope = Scope::kShared, .trains = false},
             {.name = "moment",
              .scope = Scope::kShared,
              .trains = false,
              .rows = Rows::kPerClass,
              .dtype = at::kDouble},
             {.name = "count", .scope = Scope::kShared, .trains = false, .rows = Rows::kPerClass, .dtype = at::kDouble},
             {.name = "cursor", .scope = Scope::kRun, .trains = false},
             {.name = "looked", .scope = Scope::kRun, .trains = false}})
        .add();

TEST(Mos, PhasesComeInOrderAndAlignTheHeadOnGeneratedFeatures) {
  phases_seen.clear();
  adapter_rows.clear();
  mixed_up_params = false;
  const Carry run({"test-mos"});
  const Learned learned = run.learn();
  EXPECT_EQ(phases_seen, (std::vector<std::string>{"look", "moments", "align"}));
  EXPECT_FALSE(mixed_up_params) << "the last phase trains the head alone";
  ASSERT_EQ(adapter_rows.size(), 6u);
  expect_same(adapter_rows.back().narrow(0, 0, 3), at::zeros({3, 4}), "frozen rows");
  EXPECT_GT(adapter_rows.back().abs().sum().item<double>(), 0);
  // Moments of the numbers kept, in double, from the visit = those of an extraction.
  const FeatureTable table = extract_features(learned.model, *run.sources.train, false);
  const at::Tensor hot = at::one_hot(table.labels, 3).to(at::kDouble);
  const at::Tensor expected = at::matmul(hot.t(), table.features.to(at::kDouble));
  const at::Tensor moment = learned.model.numbers().at("test-mos", Scope::kShared).tensor("moment");
  EXPECT_EQ(moment.scalar_type(), at::kDouble);
  EXPECT_LE((moment - expected).abs().max().item<double>(), 1e-9);
}

TEST(Mos, PullsToTheSumOfEarlierTasks) {
  worst_pull = 0;
  const Carry run({"test-mos"});
  const Learned first = run.learn();
  const State& shared = first.model.numbers().at("test-mos", Scope::kShared);
  EXPECT_TRUE(
      at::equal(shared.tensor("sum"), first.model.numbers().at("test-mos", Scope::kTask).tensor("up@blocks.1.mlp")));
  const Learned second = run.learn_from(first, Scope::kShared, toy_sources(20, 3, 5));
  EXPECT_EQ(worst_pull, 0);
  EXPECT_FALSE(at::equal(second.model.numbers().at("test-mos", Scope::kShared).tensor("sum"), shared.tensor("sum")));
}

TEST(Mos, ResumesInsideThePhaseAfterTheEpochs) { expect_resumable(Carry({"test-mos"}, 1)); }

// ---- G-ACIL: an analytic head --------------------------------------------------------------------------------------

constexpr double kRidge = 0.1;

class Analytic final : public Method, public Head {
 public:
  explicit Analytic(NoOptions) {}
  void grow(std::span<const std::int64_t> columns, Context& context) const override {
    State& own = context.own(Scope::kShared);
    const std::int64_t d = context.feature_width();
    if (!own.has("A")) context.create("A", at::zeros({d, d}, at::kDouble));
    if (!own.has("B")) context.create("B", at::zeros({d, static_cast<std::int64_t>(columns.size())}, at::kDouble));
  }
  Fields forward(const Fields& in, const Fields*, const View& numbers, Pass&) const override {
    const at::Tensor a = numbers.global("A"), b = numbers.global("B");
    const at::Tensor w = at::linalg_solve(a + kRidge * at::eye(a.size(0), at::kDouble), b);
    return {{"logits", at::matmul(in.at("features").to(at::kDouble), w).to(at::kFloat)}};
  }
  std::optional<at::Tensor> class_rows(const State& own) const override { return own.tensor("B").t(); }
  std::optional<Phase> next_phase(When when, Context& context) const override {
    if (when != When::kMain || context.own(Scope::kRun).has("done")) return {};
    context.own(Scope::kRun).set("done", std::int64_t{1});
    Phase solve;
    solve.name = "solve";
    solve.source = "train_plain";
    return solve;
  }
  bool visit(const Batch& batch, const Fields& out, Context& context) const override {
    EXPECT_FALSE(out.at("features").requires_grad());
    State& own = context.own(Scope::kShared);
    const at::Tensor x = out.at("features").to(at::kDouble);
    const at::Tensor y = at::one_hot(batch.column("label"), own.tensor("B").size(1)).to(at::kDouble);
    own.set("A", own.tensor("A") + at::matmul(x.t(), x));
    own.set("B", own.tensor("B") + at::matmul(x.t(), y));
    return true;
  }
};
const bool kAnalytic =
    describe<Analytic, NoOptions>("test-analytic")
        .families({{.name = "A", .scope = Scope::kShared, .trains = false, .pool = Pool::kSum, .dtype = at::kDouble},
                   {.name = "B", .scope = Scope::kShared, .trains = false, .pool = Pool::kSum, .dtype = at::kDouble},
                   {.name = "done", .scope = Scope::kRun, .trains = false}})
        .claims({Claim::kNeutralStart})
        .needs({Need::kFixedFeatures})
        .add();

at::Tensor ridge(const Model& model, const std::vector<const Source*>& sources) {
  at::Tensor a = kRidge * at::eye(32, at::kDouble), b = at::zeros({32, 3}, at::kDouble);
  for (const Source* source : sources) {
    const FeatureTable table = extract_features(model, *source, false);
    const at::Tensor x = table.features.to(at::kDouble);
    a = a + at::matmul(x.t(), x);
    b = b + at::matmul(x.t(), at::one_hot(table.labels, 3).to(at::kDouble));
  }
  return at::linalg_solve(a, b);
}

TEST(Analytic, TwoVisitsEqualOneJointSolveInAnyOrder) {
  const Carry run({"test-analytic"}, 50);  // the epochs are not run: its own phase is the main one
  const Sources other = toy_sources(30, 3, 21);
  const Learned first = run.learn();
  EXPECT_TRUE(first.history.empty());
  const Learned both = run.learn_from(first, Scope::kShared, other);
  const at::Tensor joint = ridge(both.model, {run.sources.train.get(), other.train.get()});
  const at::Tensor x = both.model.features(run.probe(), {}).to(at::kDouble);
  const at::Tensor logits = both.model.forward(run.probe(), {}).at("logits");
  EXPECT_LE((logits - at::matmul(x, joint)).abs().max().item<double>(), 1e-6);

  const Learned late = recast::learn(run.start, run.task, other, run.recipe, {});
  const Learned turned = run.learn_from(late, Scope::kShared, run.sources);
  for (const char* name : {"A", "B"}) {
    const at::Tensor p = both.model.numbers().at("test-analytic", Scope::kShared).tensor(name);
    const at::Tensor q = turned.model.numbers().at("test-analytic", Scope::kShared).tensor(name);
    EXPECT_LE((p - q).abs().max().item<double>(), 1e-12 * p.abs().max().item<double>());
  }
}

TEST(Analytic, IsRefusedBesideWhatMovesTheFeatures) {
  const std::string message = error_of(Code::kInvalidArgument, [] { Carry({"recast", "test-analytic"}); });
  EXPECT_NE(message.find("recast"), message.npos) << message;
  EXPECT_NE(message.find("test-analytic"), message.npos) << message;
}

// ---- AdaB2N: a branch on a norm that keeps statistics --------------------------------------------------------------

class Statistics final : public Method, public Branch {
 public:
  explicit Statistics(NoOptions) {}
  bool replaces() const override { return true; }
  std::vector<std::string> slots(const Anatomy&) const override { return {"norm"}; }
  void begin_task(Context& context) const override {
    const std::int64_t width = context.anatomy().at("norm").shape[0];
    if (context.own(Scope::kShared).has("mean@norm")) return;
    context.create("psi@norm", at::zeros({1}));
    context.create("mean@norm", at::zeros({width}));
    context.create("seen@norm", at::zeros({1}, at::kLong));
  }
  at::Tensor around(const Slot&, const at::Tensor& x, const Next&, const View& numbers, Pass& pass) const override {
    at::Tensor mean = numbers("mean");
    if (pass.mode() == Mode::kTrain) {
      const at::Tensor batch = x.mean({0, 1});
      const at::Tensor seen = numbers("seen");
      pass.emit("mean@norm", mean + 0.1 * (batch - mean));
      pass.emit("seen@norm", seen + 1);
      pass.add_loss("norm", 0.01 * (batch - mean).square().mean());
      mean = batch;
    }
    return (x - mean) * at::exp(numbers("psi"));
  }
};
const bool kStatistics = describe<Statistics, NoOptions>("test-statistics")
                             .families({{.name = "psi", .scope = Scope::kShared},
                                        {.name = "mean", .scope = Scope::kShared, .trains = false},
                                        {.name = "seen", .scope = Scope::kShared, .trains = false, .dtype = at::kLong}})
                             .add();

TEST(AdaB2N, StatisticsFollowTheRuleOncePerStep) {
  Carry run({"test-statistics"}, 1);
  run.recipe.batch_size = 20;  // one step: the recurrence in closed form
  const Learned learned = run.learn();
  const State& own = learned.model.numbers().at("test-statistics", Scope::kShared);
  EXPECT_EQ(own.tensor("seen@norm").item<std::int64_t>(), 1);
  recast::Run taps;
  taps.taps = {"blocks.1"};
  const Batch all = toy_batch(*run.sources.train, all_rows_of(*run.sources.train));
  const at::Tensor mean = learned.model.forward(all, taps).at("tap.blocks.1").mean({0, 1});
  EXPECT_LE((own.tensor("mean@norm") - 0.1 * mean).abs().max().item<double>(), 1e-5);
  EXPECT_GT(own.tensor("psi@norm").abs().item<double>(), 0) << "no gradient through the norm";
}

TEST(AdaB2N, EvaluatingChangesNoStatistic) {
  const Carry run({"test-statistics"}, 1);
  const Learned learned = run.learn();
  const Numbers before = learned.model.numbers().clone();
  EXPECT_EQ(before.at("test-statistics", Scope::kShared).tensor("seen@norm").item<std::int64_t>(), 3);
  Emissions dropped;
  recast::Run training;
  training.mode = Mode::kTrain;
  training.emissions = &dropped;
  learned.model.forward(run.probe(), training);
  EXPECT_EQ(dropped.values.size(), 2u);
  EXPECT_EQ(dropped.losses.size(), 1u);
  EXPECT_TRUE(equal(before, learned.model.numbers()));
}

TEST(AdaB2N, ANonFiniteStepLeavesTheStatistics) {
  Carry run({"test-statistics"}, 1);
  at::Tensor images = dynamic_cast<const ToySource&>(*run.sources.train).images().clone();
  images[0].fill_(std::numeric_limits<float>::infinity());
  run.sources.train = std::make_shared<ToySource>(images, dynamic_cast<const ToySource&>(*run.sources.train).labels());
  const Learned learned = run.learn();
  const State& own = learned.model.numbers().at("test-statistics", Scope::kShared);
  EXPECT_EQ(learned.history.front().skipped_steps, 1);
  EXPECT_EQ(own.tensor("seen@norm").item<std::int64_t>(), 2);
  EXPECT_TRUE(own.tensor("mean@norm").isfinite().all().item<bool>());
}

TEST(AdaB2N, TwoThatReplaceOneNormAreRefused) {
  const std::string message = error_of(Code::kInvalidArgument, [] {
    Carry({"test-statistics", "test-statistics:as=test-twin"});
  });
  EXPECT_NE(message.find("test-twin"), message.npos) << message;
}

// ---- Choosing by gradients: a look at them once the head is fitted, then numbers trained alone
// -----------------------

struct Look {
  at::Tensor gradient, weight, end;
  std::int64_t rows = 0;
};
Look look;

/// features + shift. Looks at the gradient of all it could move, then trains it alone, before the recipe's epochs.
class Shift final : public Method, public Branch {
 public:
  explicit Shift(NoOptions) {}
  std::vector<std::string> slots(const Anatomy&) const override { return {"features"}; }
  void begin_task(Context& context) const override {
    context.create("shift@features", at::zeros({context.feature_width()}));
  }
  at::Tensor around(const Slot&, const at::Tensor& x, const Next& next, const View& numbers,
                    Pass& pass) const override {
    return next(x) + numbers("shift") + (pass.mode() == Mode::kTrain ? 1 : 0);
  }
  std::optional<Phase> next_phase(When when, Context& context) const override {
    State& run = context.own(Scope::kRun);
    if (when != When::kFitted || run.has("warmed")) return {};
    Phase phase;
    phase.name = run.has("seen") ? "warm" : "look";
    phase.source = run.has("seen") ? "train" : "train_plain";
    phase.params = "test-shift";
    phase.gradients = !run.has("seen");
    phase.trains = run.has("seen");
    return phase;
  }
  bool visit(const Batch& batch, const Fields& out, Context& context) const override {
    EXPECT_EQ(out.at("logits").size(0), batch.rows);
    for (const Param& param : context.params()) {
      EXPECT_TRUE(param.value.grad().defined()) << param.name;
      if (param.name == "linear-probe.weight") look.weight = param.value.detach().clone();
      if (param.name != "test-shift.shift@features") continue;
      const at::Tensor more = param.value.grad() * batch.rows;
      look.gradient = look.gradient.defined() ? look.gradient + more : more;
    }
    look.rows += batch.rows;
    return true;
  }
  void end_phase(const Phase& done, Context& context) const override {
    for (const Param& param : context.params()) EXPECT_FALSE(param.value.grad().defined()) << param.name;
    context.own(Scope::kRun).set(done.name == "look" ? "seen" : "warmed", std::int64_t{1});
    if (done.name == "look") look.end = context.own(Scope::kTask).tensor("shift@features").detach().clone();
  }
};
const bool kShift = describe<Shift, NoOptions>("test-shift")
                        .families({{.name = "shift"},
                                   {.name = "seen", .scope = Scope::kRun, .trains = false},
                                   {.name = "warmed", .scope = Scope::kRun, .trains = false}})
                        .add();

Carry shift_case(std::int64_t epochs) {
  Carry run({"test-shift"}, epochs);
  run.sources = toy_sources(100);
  run.recipe.fit_head = true;
  return run;
}

TEST(Choosing, SeesTheGradientOfTheWholeLossAtTheFittedHead) {
  look = {};
  const Carry run = shift_case(0);
  run.learn();
  const FeatureTable table = extract_features(Carry({"linear-probe"}, 0).learn().model, *run.sources.train, false);
  const FeatureTable held_out =
      extract_features(Carry({"linear-probe"}, 0).learn().model, *run.sources.validation, false);
  const LinearClassifier head = fit_logistic(table, held_out, 3);
  expect_same(look.weight, head.weight, "the head at the time of the look");
  at::Tensor shift = at::zeros({table.features.size(1)}).set_requires_grad(true);
  const at::Tensor logits = at::linear(table.features + shift, head.weight, head.bias);
  (-at::log_softmax(logits, 1).gather(1, table.labels.unsqueeze(1)).sum()).backward();
  EXPECT_EQ(look.rows, 100);
  EXPECT_LE((look.gradient - shift.grad()).abs().max().item<double>(), 1e-4 * shift.grad().abs().max().item<double>());
  EXPECT_TRUE(look.end.eq(0).all().item<bool>()) << "a look moved what it looked at";
}

TEST(Choosing, ResumesBitEqualInEveryPhase) { expect_resumable(shift_case(1)); }

TEST(Choosing, NeedsALoss) {
  Carry run({"test-shift"}, 0);
  run.recipe.plugs = {parse_plug("adamw")};
  run.start = toy_model(run.backbone, run.recipe, {"test-shift"});
  const std::string message = error_of(Code::kInvalidArgument, [&] { run.learn(); });
  EXPECT_NE(message.find("test-shift"), message.npos) << message;
}

// ---- Federated averaging: learn() is the client ----------------------------------------------------------------

TEST(FederatedAveraging, IsLearnPerClientAndAMeanOfNumbers) {
  Carry run({"recast"}, 1);
  std::vector<std::shared_ptr<const Source>> rows;
  for (std::int64_t client = 0; client < 3; ++client) rows.push_back(toy_source(16, 3, 11, 100 * client));
  Model global = Carry({"recast"}, 0).learn().model;
  const double before = run.loss(global);
  for (std::uint64_t round = 0; round < 3; ++round) {
    std::vector<Numbers> sent;
    for (const auto& source : rows) {
      Budget budget;
      budget.seed = round;
      sent.push_back(
          recast::learn(global, run.task, {source, run.sources.validation}, run.recipe, budget).model.numbers());
    }
    EXPECT_FALSE(equal(sent[0], sent[1]));
    Numbers mean = sent[0].clone();
    for (auto& [plug, scopes] : mean.plugs())
      for (auto& [scope, state] : scopes)
        for (const auto& [name, number] : State(state)) {
          at::Tensor sum = at::zeros_like(std::get<at::Tensor>(number));
          for (const Numbers& client : sent) sum += client.at(plug, scope).tensor(name) / 3;
          state.set(name, sum);
        }
    global = Model(run.backbone, run.start.shared_recipe(), mean);
  }
  EXPECT_LT(run.loss(global), 0.8 * before);
  EXPECT_EQ(global.forward(run.probe(), {}).at("logits").size(1), 3);
}

}  // namespace
}  // namespace recast
