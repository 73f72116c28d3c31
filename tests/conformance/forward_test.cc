// What holds of a forward pass with any plug-in at work.
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include "conformance/plug_cases.h"

namespace recast {
namespace {

class Forward : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Plugin, Forward, testing::ValuesIn(plug_variants()), case_name);

TEST_P(Forward, TwiceEqualsOnceAndChangesNothing) {
  const PlugCase run(GetParam(), 1);
  const Learned learned = run.learn();
  const Numbers before = learned.model.numbers().clone();
  for (const Mode mode : {Mode::kEvaluate, Mode::kTrain}) {
    Emissions first_emissions, second_emissions;
    recast::Run first;
    first.mode = mode;
    first.key = Key(5);
    if (mode == Mode::kTrain) first.emissions = &first_emissions;
    recast::Run second = first;
    if (second.emissions) second.emissions = &second_emissions;
    const Fields once = learned.model.forward(run.probe(), first), twice = learned.model.forward(run.probe(), second);
    ASSERT_EQ(once.size(), twice.size());
    for (const auto& [name, tensor] : once) expect_same(tensor, twice.at(name), name);
  }
  EXPECT_TRUE(equal(before, learned.model.numbers()));
}

TEST_P(Forward, NeutralStartIsTheBackbone) {
  PlugCase run(GetParam(), 0);
  run.recipe.fit_head = false;
  const auto& plugs = run.start.recipe().plugs();
  if (!std::all_of(plugs.begin(), plugs.end(), [](const Plug& p) { return p.info->has(Claim::kNeutralStart); })) return;
  const Learned learned = run.learn();
  PlainRoute plain(*run.backbone);
  expect_same(learned.model.features(run.probe(), {}), run.backbone->features(run.probe().column("input"), plain),
              "features");
}

TEST_P(Forward, RowsDoNotDependOnOtherRows) {
  const PlugCase run(GetParam(), 1);
  const Learned learned = run.learn();
  const at::Tensor together = learned.model.forward(run.probe(7), {}).at("logits");
  for (std::int64_t row = 0; row < 7; ++row) {
    const at::Tensor alone =
        learned.model.forward(toy_batch(*run.sources.validation, {row}), {}).at("logits").squeeze(0);
    EXPECT_LE((alone - together[row]).abs().max().item<double>(),
              1e-5 * std::max(1.0, together.abs().max().item<double>()))
        << "row " << row;
  }
}

TEST_P(Forward, GivesFp32OfTheRightShape) {
  const PlugCase run(GetParam(), 1);
  const Fields out = run.learn().model.forward(run.probe(5), {});
  EXPECT_EQ(out.at("features").scalar_type(), at::kFloat);
  EXPECT_EQ(out.at("features").sizes(), (at::IntArrayRef{5, run.backbone->feature_width()}));
  EXPECT_EQ(out.at("logits").scalar_type(), at::kFloat);
  EXPECT_EQ(out.at("logits").sizes(), (at::IntArrayRef{5, 3}));
}

/// The backbone with given dense weights.
class DenseRoute final : public Route {
 public:
  explicit DenseRoute(const State& weights) : weights_(weights) {}
  at::Tensor product(const Slot& slot, const at::Tensor& x, const Apply& apply) override {
    return apply(x, weights_.tensor(slot.name));
  }
  at::Tensor call(const Slot&, const at::Tensor& x, const Next& next) override { return next(x); }
  at::Tensor value(const Slot& slot, const at::Tensor&) override { return weights_.tensor(slot.name); }

 private:
  const State& weights_;
};

TEST_P(Forward, ProductsEqualThoseOfTheEffectiveWeights) {
  const PlugCase run(GetParam());
  for (const Plug& plug : run.start.recipe().plugs())
    if (plug.roles.branch) return;  // a branch is not in the weights
  const Learned learned = run.learn();
  const State weights = learned.model.weights();
  DenseRoute dense(weights);
  const at::Tensor expected = run.backbone->features(run.probe().column("input"), dense);
  const at::Tensor given = learned.model.features(run.probe(), {});
  EXPECT_LE((expected - given).abs().max().item<double>(), 1e-5 * std::max(1.0, expected.abs().max().item<double>()));
}

/// Mean cross-entropy of the logits, summed in double.
at::Tensor toy_loss(const Model& model, const Batch& batch) {
  const at::Tensor logits = model.forward(batch, {}).at("logits").to(at::kDouble);
  return -at::log_softmax(logits, 1).gather(1, batch.column("label").unsqueeze(1)).mean();
}

/// The slope of the loss along a direction v, at distances from a value: autograd's gradient there, times v.
std::vector<double> slopes(const Model& model, const Batch& batch, at::Tensor value, const at::Tensor& direction,
                           const std::vector<double>& distances) {
  const at::Tensor kept = value.detach().clone();
  std::vector<double> found;
  for (const double t : distances) {
    at::NoGradGuard no_grad;
    value.copy_(kept + t * direction);
    const c10::AutoGradMode graph(true);
    const at::Tensor gradient =
        torch::autograd::grad({toy_loss(model, batch)}, {value}, {}, /*retain_graph=*/false, /*create_graph=*/false,
                              /*allow_unused=*/true)
            .front();
    found.push_back(gradient.defined() ? (gradient * direction).to(at::kDouble).sum().item<double>() : 0);
  }
  const at::NoGradGuard no_grad;
  value.copy_(kept);
  return found;
}

/// A central difference along a unit direction is the mean of the slopes in between, kinks (ReLU) or none. Rounding:
/// the forward runs in fp32; a logit is a sum of some 64 products that passed some ten such sums in a row, each with an
/// error of epsilon times the square root of its length, so a loss carries about 32 epsilon |logit| of noise, which the
/// difference divides by h. The mean of a few slopes misses the mean of all by less than they vary.
void expect_gradient(const Model& model, const Batch& batch, at::Tensor value, const at::Tensor& direction,
                     const std::string& what) {
  constexpr double h = 2e-2;
  const std::vector<double> between =
      slopes(model, batch, value, direction, {-0.75 * h, -0.25 * h, 0.25 * h, 0.75 * h});
  const at::NoGradGuard no_grad;
  const double noise =
      32 * std::numeric_limits<float>::epsilon() / 2 * model.forward(batch, {}).at("logits").abs().max().item<double>();
  const at::Tensor kept = value.clone();
  const auto loss_at = [&](double t) {
    value.copy_(kept + t * direction);
    return toy_loss(model, batch).item<double>();
  };
  const double difference = (loss_at(h) - loss_at(-h)) / (2 * h);
  value.copy_(kept);
  double mean = 0, variation = 0;
  for (std::size_t i = 0; i < between.size(); ++i) {
    mean += between[i] / static_cast<double>(between.size());
    if (i > 0) variation += std::abs(between[i] - between[i - 1]);
  }
  EXPECT_LE(std::abs(difference - mean), noise / h + variation)
      << what << ": " << difference << " by differences, " << mean << " by autograd";
}

TEST_P(Forward, GradientsAreThoseOfDifferences) {
  const PlugCase run(GetParam(), 1);
  Model model = run.learn().model;
  const Batch batch = run.probe(5);
  std::map<std::string, at::Tensor> trained;
  for (const auto& [plug, scopes] : model.numbers().plugs())
    for (const auto& [scope, state] : scopes)
      for (const auto& [name, number] : state) {
        const auto* tensor = std::get_if<at::Tensor>(&number);
        if (!tensor || !model.recipe().plug(plug).info->family(family_of(name))->trains) continue;
        trained[plug + "." + name] = *tensor;
        tensor->set_requires_grad(true);
      }
  if (trained.empty()) return;  // a head that learns without gradient
  toy_loss(model, batch).backward();
  for (const auto& [name, value] : trained) {
    const at::Tensor gradient = value.grad();
    const at::Tensor mixed = Key(3).fold(name).normal(value.sizes());
    expect_gradient(model, batch, value, mixed / mixed.norm(), name + " along a random direction");
    if (gradient.defined() && gradient.norm().item<double>() > 0)
      expect_gradient(model, batch, value, gradient / gradient.norm(), name + " along its gradient");
  }
}

}  // namespace
}  // namespace recast
