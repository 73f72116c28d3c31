// Update rules: frozen rows, previews, clipping. A throwaway branch brings numbers to move and looks on.
#include "conformance/plug_cases.h"

namespace recast {
namespace {

constexpr std::int64_t kFrozenRows = 10;

struct Seen {
  std::vector<std::vector<at::Tensor>> previews, moves;
  std::vector<at::Tensor> gains;
  double clipped_norm = 0;
};
Seen seen;

/// features * gain, of which the first rows are frozen; records what preview() said and what then happened.
class Probe final : public Method, public Branch, public UpdateRule {
 public:
  explicit Probe(NoOptions) {}
  std::vector<std::string> slots(const Anatomy&) const override { return {"features"}; }
  void begin_task(Context& context) const override {
    context.create("gain@features", at::ones({context.feature_width()}));
    context.freeze("gain@features", at::arange(context.feature_width()).lt(kFrozenRows));
  }
  at::Tensor around(const Slot&, const at::Tensor& x, const Next& next, const View& numbers, Pass&) const override {
    return next(x) * numbers("gain");
  }
  void after_backward(Step& step) const override { record_preview(step); }
  void before_step(Step& step) const override {
    record_preview(step);
    double squares = 0;
    for (const Param& param : step.context().params())
      if (param.value.grad().defined()) squares += param.value.grad().square().sum().item<double>();
    seen.clipped_norm = std::max(seen.clipped_norm, std::sqrt(squares));
    values_ = values(step);
  }
  void after_step(Step& step) const override {
    const auto now = values(step);
    seen.moves.emplace_back();
    for (std::size_t i = 0; i < now.size(); ++i) seen.moves.back().push_back(now[i] - values_[i]);
    seen.gains.push_back(step.context().own(Scope::kTask).tensor("gain@features").detach().clone());
  }

 private:
  static std::vector<at::Tensor> values(Step& step) {
    std::vector<at::Tensor> copies;
    for (const Param& param : step.context().params()) copies.push_back(param.value.detach().clone());
    return copies;
  }
  static void record_preview(Step& step) {
    const auto before = values(step);
    seen.previews.push_back(step.preview());
    const auto after = values(step);
    for (std::size_t i = 0; i < before.size(); ++i) expect_same(before[i], after[i], "value after a preview");
  }
  inline static std::vector<at::Tensor> values_;
};
const bool kProbe = describe<Probe, NoOptions>("test-probe")
                        .summary("-")
                        .paper("-")
                        .families({{.name = "gain"}})
                        .claims({Claim::kIsolated})
                        .add();

class Update : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Plugin, Update, testing::ValuesIn(variants_where([](const std::string& plug) {
                           return make_method(plug)->roles().update != nullptr;
                         })),
                         case_name);

Learned learn_with_probe(const std::string& plug, double clip) {
  seen = {};
  PlugCase run(plug);
  run.recipe.clip_norm = clip;
  run.recipe.weight_decay = 0.1;
  const Model model(
      run.backbone,
      compose(merge_plugs(run.recipe, {parse_plug("test-probe"), spec_of(plug)}, run.backbone->anatomy()),
              run.backbone->anatomy()),
      {});
  return learn(model, run.task, run.sources, run.recipe, {});
}

TEST_P(Update, FrozenRowsNeverMove) {
  learn_with_probe(GetParam(), 1);
  ASSERT_EQ(seen.gains.size(), 6u);
  const at::Tensor gain = seen.gains.back();
  expect_same(gain.narrow(0, 0, kFrozenRows), at::ones({kFrozenRows}), "frozen rows");
  EXPECT_TRUE(gain.narrow(0, kFrozenRows, gain.size(0) - kFrozenRows).ne(1).all().item<bool>()) << "nothing else moved";
}

TEST_P(Update, APreviewIsTheStepAndChangesNothing) {
  for (const double clip : {1e-3, 0.0}) {
    SCOPED_TRACE("clip " + std::to_string(clip));
    learn_with_probe(GetParam(), clip);
    ASSERT_EQ(seen.previews.size(), 2 * seen.moves.size());
    for (std::size_t step = 0; step < seen.moves.size(); ++step)
      for (std::size_t i = 0; i < seen.moves[step].size(); ++i) {
        expect_same(seen.previews[2 * step][i], seen.moves[step][i], "move previewed after backward");
        expect_same(seen.previews[2 * step + 1][i], seen.moves[step][i], "move previewed before the step");
      }
  }
}

TEST_P(Update, PreviewsDoNotChangeTheRun) {
  const Learned looked_at = learn_with_probe(GetParam(), 1);
  const std::vector<at::Tensor> gains = seen.gains;
  learn_with_probe(GetParam(), 1);
  for (std::size_t i = 0; i < gains.size(); ++i) expect_same(gains[i], seen.gains[i], "gain");
}

TEST_P(Update, ClipsTheWholeGradient) {
  learn_with_probe(GetParam(), 1e-3);
  EXPECT_NEAR(seen.clipped_norm, 1e-3, 1e-6);
}

TEST_P(Update, RatesArePureAndNeverNegative) {
  const auto method = make_method(GetParam());
  const UpdateRule& rule = *method->roles().update;
  if (!rule.schedules()) return;
  for (std::int64_t epoch = 0; epoch < 10; ++epoch)
    for (std::int64_t step = 0; step < 3; ++step) {
      const Counters at{.step = 3 * epoch + step, .epoch = epoch, .total_steps = 30, .total_epochs = 10};
      const double rate = rule.rate("group", 0, at);
      EXPECT_TRUE(std::isfinite(rate) && rate >= 0) << rate;
      rule.rate("group", 0, Counters{.step = 29, .epoch = 9, .total_steps = 30, .total_epochs = 10});
      EXPECT_EQ(rate, rule.rate("group", 0, at));
    }
}

}  // namespace
}  // namespace recast
