// Rules on weights and on another plug-in's numbers: LoRA, IncreLoRA, a hypernetwork.
#include <torch/csrc/autograd/autograd.h>

#include "carry/carry_case.h"

namespace recast {
namespace {

std::vector<std::string> slots_of_role(const Anatomy& anatomy, std::string_view role) {
  std::vector<std::string> names;
  for (const Slot& slot : anatomy.slots)
    if (slot.role == role) names.push_back(slot.name);
  return names;
}

// ---- LoRA on q and v of a fused weight -----------------------------------------------------------------------------

struct LoraOptions {
  std::int64_t rank = 2;
  bool dense = false;  // not to offer product(), for comparison
};
int lora_products = 0;

class Lora final : public Method, public WeightRule {
 public:
  explicit Lora(LoraOptions options) : options_(options) {}
  Stage stage() const override { return Stage::kAdd; }
  std::vector<std::string> slots(const Anatomy& anatomy) const override { return slots_of_role(anatomy, "attn.qkv"); }
  void begin_task(Context& context) const override {
    for (const std::string& name : slots(context.anatomy()))
      for (const Part& part : adapted(context.anatomy().at(name))) {
        const std::int64_t width = context.anatomy().at(name).shape[1];
        context.create(number_name("A", name, part.name),
                       context.key().fold(name + part.name).normal({options_.rank, width}));
        context.create(number_name("B", name, part.name), at::zeros({part.end - part.begin, options_.rank}));
      }
  }
  at::Tensor weight(const Slot& slot, const at::Tensor& w, const View& numbers, Pass&) const override {
    at::Tensor sum = w.clone();
    for (const Part& part : adapted(slot))
      sum.slice(0, part.begin, part.end) += at::matmul(numbers("B", part.name), numbers("A", part.name));
    return sum;
  }
  std::optional<at::Tensor> product(const Slot& slot, const at::Tensor& x, const Next& next, const View& numbers,
                                    Pass&) const override {
    if (options_.dense) return {};
    ++lora_products;
    at::Tensor y = next(x).clone();
    for (const Part& part : adapted(slot))
      y.slice(-1, part.begin, part.end) +=
          at::matmul(at::matmul(x, numbers("A", part.name).t()), numbers("B", part.name).t());
    return y;
  }

 private:
  static std::vector<Part> adapted(const Slot& slot) {
    std::vector<Part> parts;
    for (const Part& part : slot.parts)
      if (part.name != "k") parts.push_back(part);
    return parts;
  }
  LoraOptions options_;
};
const bool kLora = describe<Lora, LoraOptions>("test-lora")
                       .families({{.name = "A"}, {.name = "B"}})
                       .claims({Claim::kIsolated, Claim::kNeutralStart})
                       .option("rank", &LoraOptions::rank, in_range(1, 8), "r")
                       .option("dense", &LoraOptions::dense, any_value(), "no product()")
                       .add();

TEST(Lora, ProductEqualsWeightAloneAndOverTemplates) {
  for (const std::vector<std::string>& others : {std::vector<std::string>{}, {"recast"}}) {
    std::vector<std::string> skinny = others, dense = others;
    skinny.push_back("test-lora");
    dense.push_back("test-lora:dense=true,as=test-lora");
    lora_products = 0;
    const Carry run(skinny), reference(dense);
    const Learned learned = run.learn();
    EXPECT_GT(lora_products, 0) << "product() was never asked";
    const Model same(run.backbone, reference.start.shared_recipe(), learned.model.numbers());
    const at::Tensor a = learned.model.forward(run.probe(), {}).at("logits"),
                     b = same.forward(run.probe(), {}).at("logits");
    EXPECT_LE((a - b).abs().max().item<double>(), 1e-5 * std::max(1.0, b.abs().max().item<double>()));
    EXPECT_LT(run.loss(learned.model), run.loss(Carry(skinny, 0).learn().model));
  }
}

TEST(Lora, LeavesThePartThatItDoesNotName) {
  const Carry run({"test-lora"});
  const at::Tensor adapted = run.learn().model.weights().tensor("blocks.0.attn.qkv");
  const at::Tensor own = run.backbone->weight(run.backbone->anatomy().at("blocks.0.attn.qkv"));
  expect_same(adapted.slice(0, 32, 64), own.slice(0, 32, 64), "k");
  EXPECT_FALSE(at::equal(adapted.slice(0, 0, 32), own.slice(0, 0, 32)));
  EXPECT_FALSE(at::equal(adapted.slice(0, 64, 96), own.slice(0, 64, 96)));
}

// ---- IncreLoRA: rank grows in mid-run, by the gradient of the whole update -----------------------------------------

constexpr std::int64_t kGrowsAt = 2;
double worst_chain_rule = 0;
std::map<std::string, std::int64_t> born_seen;

class Incre final : public Method, public WeightRule, public UpdateRule {
 public:
  explicit Incre(NoOptions) {}
  Stage stage() const override { return Stage::kAdd; }
  std::vector<std::string> slots(const Anatomy&) const override { return {kSlot}; }
  void begin_task(Context& context) const override { grow(context, "0"); }
  at::Tensor weight(const Slot&, const at::Tensor& w, const View& numbers, Pass&) const override {
    at::Tensor sum = w + at::matmul(numbers("B", "0"), numbers("A", "0"));
    return numbers.has("B", "1") ? sum + at::matmul(numbers("B", "1"), numbers("A", "1")) : sum;
  }
  bool schedules() const override { return true; }
  double rate(std::string_view, std::int64_t born_step, const Counters& at) const override {
    return at.step - born_step == 0 ? 0 : 1;  // each group warms up from its own birth
  }
  void after_backward(Step& step) const override {
    const State& own = step.context().own(Scope::kTask);
    const at::Tensor g = step.weight_grad(kSlot);
    const at::Tensor b_grad = own.tensor("B@blocks.0.mlp.fc1#0").grad();
    const at::Tensor by_chain = at::matmul(g, own.tensor("A@blocks.0.mlp.fc1#0").t());
    worst_chain_rule = std::max(worst_chain_rule, (b_grad - by_chain).abs().max().item<double>());
    State& run = step.context().own(Scope::kRun);
    run.set("score", (run.has("score") ? run.real("score") : 0) + g.square().sum().item<double>());
    if (step.context().at().step == kGrowsAt) grow(step.context(), "1");
    for (const Param& param : step.context().params()) born_seen[param.name] = param.born_step;
  }

 private:
  static constexpr const char* kSlot = "blocks.0.mlp.fc1";
  static void grow(Context& context, const std::string& key) {
    const Slot& slot = context.anatomy().at(kSlot);
    context.create(number_name("A", kSlot, key), context.key().fold("A" + key).normal({1, slot.shape[1]}) * 0.1);
    context.create(number_name("B", kSlot, key), at::zeros({slot.shape[0], 1}));
  }
};
const bool kIncre =
    describe<Incre, NoOptions>("test-incre")
        .families({{.name = "A"}, {.name = "B"}, {.name = "score", .scope = Scope::kRun, .trains = false}})
        .claims({Claim::kIsolated})
        .needs({Need::kWeightGradient})
        .add();

TEST(IncreLora, TrainsWhatIsCreatedInMidRunAndSeesTheGradientOfItsProduct) {
  worst_chain_rule = 0;
  born_seen.clear();
  const Carry run({"test-incre"});
  const Learned learned = run.learn();
  EXPECT_LE(worst_chain_rule, 1e-5);
  EXPECT_EQ(born_seen.at("test-incre.B@blocks.0.mlp.fc1#0"), 0);
  EXPECT_EQ(born_seen.at("test-incre.B@blocks.0.mlp.fc1#1"), kGrowsAt);
  // The best epoch is kept: it may be the first, before the second block moved, but not before it was made.
  const Learned last = Carry({"test-incre"}, 4).learn();
  const State& own = last.model.numbers().at("test-incre", Scope::kTask);
  EXPECT_GT(own.tensor("B@blocks.0.mlp.fc1#1").abs().sum().item<double>(), 0) << "the new block never trained";
}

TEST(IncreLora, ResumesWithWhatWasBorn) { expect_resumable(Carry({"test-incre"})); }

// ---- A hypernetwork that makes another plug-in's coefficients ------------------------------------------------------

struct HyperOptions {
  double pull = 0;  // of what it made for earlier tasks, at the step to come
};

class Hyper final : public Method, public WeightRule, public UpdateRule {
 public:
  explicit Hyper(HyperOptions options) : options_(options) {}
  Stage stage() const override { return Stage::kSource; }
  std::vector<std::string> slots(const Anatomy&) const override { return {"recast.c@*"}; }
  void begin_task(Context& context) const override {
    context.create("e", context.key().fold("e" + context.task().name).normal({4}));
    State& shared = context.own(Scope::kShared);
    // Shapes of what it makes: from the numbers that the other plug-in has created by now.
    const Model now = context.model("current");
    for (const auto& [name, number] : now.numbers().at("recast", Scope::kTask)) {
      const at::Tensor& c = std::get<at::Tensor>(number);
      if (!shared.has(number_name("g", name.substr(2))))
        context.create(number_name("g", name.substr(2)),
                       at::cat({c.unsqueeze(0), at::zeros({4, c.size(0), c.size(1), c.size(2)})}));
    }
    shared.set("embedding#" + context.task().name, at::zeros({4}));  // this task's place in the shared table
  }
  at::Tensor weight(const Slot& slot, const at::Tensor& w, const View& numbers, Pass&) const override {
    EXPECT_FALSE(w.defined()) << "a source has nothing before it";
    const at::Tensor& g = numbers.state(Scope::kShared).tensor(number_name("g", slot.name.substr(9)));
    return make(g, numbers.global("e"));
  }
  void after_backward(Step& step) const override {
    if (options_.pull <= 0) return;
    Context& context = step.context();
    const Numbers before = context.model("previous").numbers();
    const State& old = before.at("test-hyper", Scope::kShared);
    const std::vector<at::Tensor> moves = step.preview();  // the step that the optimiser is about to take
    at::Tensor pull;
    for (std::size_t i = 0; i < context.params().size(); ++i) {
      const Param& param = context.params()[i];
      const std::string name = param.name.substr(param.name.find('.') + 1);
      if (param.group != "test-hyper" || family_of(name) != "g" || !old.has("embedding#first")) continue;
      const at::Tensor e = old.tensor("embedding#first");
      const at::Tensor gap = make(param.value + moves[i].detach(), e) - make(old.tensor(name), e);
      pull = pull.defined() ? pull + gap.square().sum() : gap.square().sum();
    }
    if (!pull.defined()) return;
    const std::vector<at::Tensor> gradients = step.grad(pull * options_.pull, "test-hyper", false);
    std::size_t next = 0;
    for (Param& param : context.params())
      if (param.group == "test-hyper")
        if (const at::Tensor& g = gradients[next++]; g.defined()) param.value.mutable_grad().add_(g);
  }
  void end_task(Context& context) const override {
    context.own(Scope::kShared)
        .set("embedding#" + context.task().name, context.own(Scope::kTask).tensor("e").detach().clone());
  }

 private:
  static at::Tensor make(const at::Tensor& g, const at::Tensor& e) {
    return g[0] + at::tensordot(e, g.slice(0, 1), {0}, {0});
  }
  HyperOptions options_;
};
const bool kHyper = describe<Hyper, HyperOptions>("test-hyper")
                        .families({{.name = "e"},
                                   {.name = "g", .scope = Scope::kShared},
                                   {.name = "embedding", .scope = Scope::kShared, .trains = false}})
                        .claims({Claim::kNeutralStart})
                        .option("pull", &HyperOptions::pull, at_least(0), "strength")
                        .add();

TEST(Hypernet, WhatItMakesIsNeitherTrainedNorStored) {
  const Carry run({"recast", "test-hyper"}, 3);
  EXPECT_TRUE(run.start.recipe().covered("recast.c@blocks.0.attn.qkv"));
  EXPECT_FALSE(run.start.recipe().isolated());
  const Learned learned = run.learn();
  EXPECT_TRUE(learned.model.numbers().at("recast", Scope::kTask).empty());
  const at::Tensor g = learned.model.numbers().at("test-hyper", Scope::kShared).tensor("g@blocks.0.attn.qkv");
  EXPECT_GT(g.slice(0, 1).abs().max().item<double>(), 0) << "no gradient reached the generator";
  EXPECT_LT(run.loss(learned.model), run.loss(Carry({"recast", "test-hyper"}, 0).learn().model));
  // Without the other plug-in's numbers it runs as well, at an effective weight that is not the backbone's.
  EXPECT_FALSE(at::equal(learned.model.weights().tensor("blocks.0.attn.qkv"),
                         run.backbone->weight(run.backbone->anatomy().at("blocks.0.attn.qkv"))));
}

TEST(Hypernet, LooksAheadToKeepWhatItMadeForEarlierTasks) {
  const auto drift = [](const std::string& plug) {
    Carry run({"recast", plug}, 3);
    run.task.name = "first";
    const Learned first = run.learn();
    run.task.name = "second";
    const Learned second = run.learn_from(first, Scope::kShared, toy_sources(20, 3, 77));
    Numbers served = joined(first.model.numbers(), second.model.numbers());
    const Model now(run.backbone, first.model.shared_recipe(), served);
    return (now.features(run.probe(), {}) - first.model.features(run.probe(), {})).abs().max().item<double>();
  };
  const double free = drift("test-hyper"), held = drift("test-hyper:pull=100");
  EXPECT_GT(free, 0) << "nothing to hold: the second task did not change the first";
  EXPECT_LT(held, free / 2);
}

TEST(Hypernet, TwoSourcesOfTheSameNumbersAreRefused) {
  const std::string message = error_of(Code::kInvalidArgument, [] {
    Carry({"recast", "test-hyper", "test-hyper:as=test-again"});
  });
  EXPECT_NE(message.find("test-again"), message.npos) << message;
}

// ---- Two small ones on what a slot's rules see ---------------------------------------------------------------------

class Double final : public Method, public Branch {
 public:
  explicit Double(NoOptions) {}
  std::vector<std::string> slots(const Anatomy&) const override { return {"features"}; }
  at::Tensor around(const Slot&, const at::Tensor& x, const Next& next, const View&, Pass&) const override {
    return next(x) * 2;
  }
};
const bool kDouble = describe<Double, NoOptions>("test-double").claims({Claim::kIsolated}).add();

TEST(FeatureSlot, IsGoneThroughOnceFromPixelsAndFromFeatures) {
  const Carry run({"test-double"}, 0);
  const Model model = run.learn().model;
  PlainRoute plain(*run.backbone);
  const at::Tensor bare = run.backbone->features(run.probe().column("input"), plain);
  expect_same(model.features(run.probe(), {}), bare * 2, "features from pixels");
  expect_same(model.features({{{"features", bare}}, 5}, {}), bare * 2, "features from a column");
}

/// Reads, to make the coefficients, the coefficients.
class Circle final : public Method, public WeightRule {
 public:
  explicit Circle(NoOptions) {}
  Stage stage() const override { return Stage::kAdd; }
  std::vector<std::string> slots(const Anatomy&) const override { return {"recast.c@*"}; }
  at::Tensor weight(const Slot& slot, const at::Tensor& w, const View&, Pass& pass) const override {
    return w + pass.param("recast", slot.name.substr(7), w);
  }
};
const bool kCircle = describe<Circle, NoOptions>("test-circle").claims({Claim::kIsolated}).add();

TEST(ParamSlots, RulesThatDependOnEachOtherAreRefused) {
  const std::string message = error_of(Code::kInvalidArgument, [] { Carry({"recast", "test-circle"}).learn(); });
  EXPECT_NE(message.find("recast.c@"), message.npos) << message;
}

}  // namespace
}  // namespace recast
