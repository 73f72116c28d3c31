// Numbers that train in the run and are not stored: scores of which a task keeps a decision.
#include "carry/carry_case.h"

namespace recast {
namespace {

bool looks_ahead = false;
std::vector<double> seen_at_the_end;

/// features + shift, the shift trained in the run; the task keeps its signs.
class Signs final : public Method, public Branch, public UpdateRule {
 public:
  explicit Signs(NoOptions) {}
  std::vector<std::string> slots(const Anatomy&) const override { return {"features"}; }
  void begin_task(Context& context) const override {
    context.create("shift@features", at::zeros({context.feature_width()}));
    context.create("sign@features", at::zeros({context.feature_width()}, at::kChar));
  }
  at::Tensor around(const Slot&, const at::Tensor& x, const Next& next, const View& numbers, Pass&) const override {
    return next(x) + (numbers.has("shift") ? numbers("shift") : 0.01 * numbers("sign").to(at::kFloat));
  }
  void before_step(Step& step) const override {
    if (looks_ahead) step.preview();
  }
  void end_task(Context& context) const override {
    const at::Tensor shift = context.own(Scope::kRun).tensor("shift@features").detach();
    seen_at_the_end.push_back(shift.to(at::kDouble).norm().item<double>());
    context.own(Scope::kTask).set("sign@features", shift.sign().to(at::kChar));
  }
};
const bool kSigns =
    describe<Signs, NoOptions>("test-signs")
        .families({{.name = "shift", .scope = Scope::kRun}, {.name = "sign", .trains = false, .dtype = at::kChar}})
        .claims({Claim::kIsolated})
        .add();

TEST(RunNumbers, TrainAndAreNotStored) {
  const Learned learned = Carry({"test-signs"}).learn();
  const Numbers& numbers = learned.model.numbers();
  EXPECT_TRUE(numbers.at("test-signs", Scope::kRun).empty());
  EXPECT_FALSE(numbers.at("test-signs", Scope::kTask).has("shift@features"));
  EXPECT_TRUE(numbers.at("test-signs", Scope::kTask).tensor("sign@features").ne(0).all().item<bool>());
}

TEST(RunNumbers, ResumeBitEqual) { expect_resumable(Carry({"test-signs"})); }

TEST(RunNumbers, APreviewLeavesThemInTraining) {
  const Learned plain = Carry({"test-signs"}).learn();
  looks_ahead = true;
  const Learned looked = Carry({"test-signs"}).learn();
  looks_ahead = false;
  EXPECT_TRUE(equal(plain.model.numbers(), looked.model.numbers()));
}

/// The end of a run that goes on after its best epoch is the end of one that stops there.
TEST(RunNumbers, TheTasksEndSeesThoseOfTheBestEpoch) {
  Carry longer({"test-signs"}, 12);
  longer.recipe.rate = longer.recipe.head_rate = 0.3;  // so large that later epochs undo what the first ones gained
  const Learned learned = longer.learn();
  ASSERT_GT(learned.best_epoch, 0);
  ASSERT_LT(learned.best_epoch, 12) << "the best epoch is the last: the test proves nothing";
  Carry shorter({"test-signs"}, learned.best_epoch);
  shorter.recipe.rate = shorter.recipe.head_rate = 0.3;
  shorter.learn();
  ASSERT_GE(seen_at_the_end.size(), 2u);
  EXPECT_EQ(seen_at_the_end[seen_at_the_end.size() - 2], seen_at_the_end.back());
}

}  // namespace
}  // namespace recast
