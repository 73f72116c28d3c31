// Steps and objectives of another kind: EGGROLL's population, several objectives weighted by their gradients.
#include "carry/carry_case.h"

namespace recast {
namespace {

// ---- EGGROLL: a population over a plug-in's numbers, without autograd ----------------------------------------------

constexpr double kSigma = 0.05;
constexpr std::int64_t kMembers = 16;
bool saw_graph = false;

/// The noise of a pair of members for a number: the same wherever it is asked for.
at::Tensor noise(Key key, const std::string& name, std::int64_t member, at::IntArrayRef shape) {
  const at::Tensor drawn = key.fold(name).fold("pair", static_cast<std::uint64_t>(member / 2)).normal(shape);
  return member % 2 == 0 ? drawn : -drawn;
}

class Population final : public Method, public WeightRule, public UpdateRule {
 public:
  explicit Population(NoOptions) {}
  Stage stage() const override { return Stage::kAdd; }
  std::vector<std::string> slots(const Anatomy&) const override { return {"recast.c@*"}; }
  at::Tensor weight(const Slot& slot, const at::Tensor& w, const View&, Pass& pass) const override {
    if (!pass.batch().has("member")) return w;
    const at::Tensor member = pass.batch().column("member");
    EXPECT_TRUE(member.eq(member[0]).all().item<bool>()) << "rows of several members in one pass";
    return w + kSigma * noise(pass.key(), slot.name, member[0].item<std::int64_t>(), w.sizes());
  }
  bool drives() const override { return true; }
  void drive(Step& step) const override {
    const Batch& rows = step.batch();
    Batch all{{}, rows.rows * kMembers};
    for (const auto& [name, column] : rows.at) {
      std::vector<std::int64_t> times(column.dim(), 1);
      times[0] = kMembers;
      all.at[name] = column.repeat(times);
    }
    all.at["member"] = at::arange(kMembers).repeat_interleave(rows.rows);
    recast::Run run;
    run.mode = Mode::kTrain;
    run.key = generation(step.context());
    at::Tensor fitness;
    {
      const at::NoGradGuard no_grad;
      const at::Tensor logits = step.context().model("current").forward(all, run).at("logits");
      saw_graph = saw_graph || logits.requires_grad();
      fitness = at::log_softmax(logits, 1).gather(1, all.column("label").unsqueeze(1)).view({kMembers, -1}).mean(1);
      fitness = (fitness - fitness.mean()) / (fitness.var() + 1e-5).sqrt();
    }
    for (Param& param : step.context().params()) {
      if (param.group != "recast") continue;
      at::Tensor direction = at::zeros_like(param.value);
      for (std::int64_t i = 0; i < kMembers; ++i)
        direction += fitness[i] * noise(run.key, param.name, i, param.value.sizes());
      param.value.mutable_grad() = -direction.detach() / static_cast<double>(kMembers);
    }
    Context& context = step.context();
    step.update();
    EXPECT_EQ(&context, &step.context()) << "the driver's context went over to another plug-in";
  }
  static Key generation(Context& context) {
    return context.key().fold("generation", static_cast<std::uint64_t>(context.at().step));
  }
};
const bool kPopulation =
    describe<Population, NoOptions>("test-eggroll").claims({Claim::kIsolated}).varies_by({"member"}).add();

TEST(Eggroll, LearnsCoefficientsByAPopulationWithoutAutograd) {
  saw_graph = false;
  Carry run({"recast", "test-eggroll"}, 12);
  run.recipe.rate = 0.02;
  const Model start = Carry({"recast", "test-eggroll"}, 0).learn().model;
  const Learned learned = run.learn();
  EXPECT_FALSE(saw_graph);
  EXPECT_LT(run.loss(learned.model), 0.9 * run.loss(start));
  EXPECT_TRUE(
      equal(learned.model.numbers().at("linear-probe", Scope::kTask), start.numbers().at("linear-probe", Scope::kTask)))
      << "a number without gradient moved";
}

TEST(Eggroll, MembersInOneBatchEqualMembersOneByOne) {
  const Carry run({"recast", "test-eggroll"}, 1);
  const Model model = run.learn().model;
  recast::Run how;
  how.mode = Mode::kTrain;
  how.key = Key(9);
  Batch mixed = run.probe();
  mixed.at["member"] = at::tensor({3, 0, 3, 1, 0}, at::kLong);
  const at::Tensor together = model.forward(mixed, how).at("logits");
  for (const std::int64_t member : {0, 1, 3}) {
    Batch rows = run.probe();
    rows.at["member"] = at::full({5}, member, at::kLong);
    const at::Tensor alone = model.forward(rows, how).at("logits");
    for (std::int64_t row = 0; row < 5; ++row)
      if (mixed.column("member")[row].item<std::int64_t>() == member) {
        EXPECT_LE((alone[row] - together[row]).abs().max().item<double>(), 1e-5) << member << " " << row;
      }
  }
  EXPECT_FALSE(at::equal(together, model.forward(run.probe(), how).at("logits"))) << "the members carry no noise";
}

TEST(Eggroll, Resumes) { expect_resumable(Carry({"recast", "test-eggroll"})); }

TEST(Eggroll, TwoDriversAreRefused) {
  const std::string message = error_of(Code::kInvalidArgument, [] {
    Carry({"recast", "test-eggroll", "test-eggroll:as=test-other"});
  });
  EXPECT_NE(message.find("drive"), message.npos) << message;
}

// ---- Two objectives, weighted so that neither gradient rules -------------------------------------------------------

double worst_mix = 0, curvature = 0;
bool touched_grad = false;

class Objectives final : public Method, public LossTerm, public UpdateRule {
 public:
  explicit Objectives(NoOptions) {}
  bool primary() const override { return true; }
  at::Tensor loss(const Batch& batch, const Fields& out, Step& step) const override {
    const at::Tensor logits = out.at("logits");
    const at::Tensor truth = -at::log_softmax(logits, 1).gather(1, batch.column("label").unsqueeze(1)).mean();
    const at::Tensor size = logits.square().mean();
    const auto a = step.grad(truth, "", false), b = step.grad(size, "", true);
    State& own = step.context().own(Scope::kRun);
    const double wa = 1 / norm(a), wb = 1 / norm(b);
    own.set("wa", wa);
    own.set("wb", wb);
    for (const Param& param : step.context().params()) touched_grad = touched_grad || param.value.grad().defined();
    // Of a gradient that kept its graph a second derivative can be taken, through attention too.
    for (const at::Tensor& g : step.grad(squares(b), "recast", false))
      if (g.defined()) curvature += g.abs().sum().item<double>();
    remember(own, a, b);
    return truth * wa + size * wb;
  }
  void after_backward(Step& step) const override {
    const State& own = step.context().own(Scope::kRun);
    for (std::size_t i = 0; i < step.context().params().size(); ++i) {
      const at::Tensor grad = step.context().params()[i].value.grad();
      const at::Tensor mix =
          own.tensor("a#" + std::to_string(i)) * own.real("wa") + own.tensor("b#" + std::to_string(i)) * own.real("wb");
      if (grad.defined()) worst_mix = std::max(worst_mix, (grad - mix).abs().max().item<double>());
    }
  }

 private:
  static at::Tensor squares(const std::vector<at::Tensor>& gradients) {
    at::Tensor sum = at::zeros({});
    for (const at::Tensor& g : gradients)
      if (g.defined()) sum = sum + g.square().sum();
    return sum;
  }
  static double norm(const std::vector<at::Tensor>& gradients) {
    return std::sqrt(squares(gradients).item<double>()) + 1e-12;
  }
  static void remember(State& own, const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
    for (std::size_t i = 0; i < a.size(); ++i) {
      own.set("a#" + std::to_string(i), a[i].defined() ? a[i].detach() : at::zeros({}));
      own.set("b#" + std::to_string(i), b[i].defined() ? b[i].detach() : at::zeros({}));
    }
  }
};
const bool kObjectives = describe<Objectives, NoOptions>("test-objectives")
                             .families({{.name = "a", .scope = Scope::kRun, .trains = false},
                                        {.name = "b", .scope = Scope::kRun, .trains = false},
                                        {.name = "wa", .scope = Scope::kRun, .trains = false},
                                        {.name = "wb", .scope = Scope::kRun, .trains = false}})
                             .claims({Claim::kIsolated})
                             .add();

TEST(Objectives, AreWeightedByGradientsThatALossTermTakesItself) {
  worst_mix = curvature = 0;
  touched_grad = false;
  const Carry run({"recast", "test-objectives"});
  EXPECT_EQ(run.start.recipe().primary_loss()->alias(), "test-objectives")
      << "a user's primary loss replaces the recipe's";
  run.learn();
  EXPECT_FALSE(touched_grad) << "step.grad() left something in .grad";
  EXPECT_GT(curvature, 0);
  EXPECT_LE(worst_mix, 1e-5) << "the one backward gives the weighted sum of the gradients";
}

}  // namespace
}  // namespace recast
