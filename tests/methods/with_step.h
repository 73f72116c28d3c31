#pragma once
// A throwaway driver that hands each real training step to a function of the test.
#include "conformance/toy_source.h"

namespace recast {

class StepTester final : public Method, public UpdateRule {
 public:
  explicit StepTester(NoOptions) {}
  bool drives() const override { return true; }
  void begin_task(Context& context) const override {
    context.create("p", Key(1).fold("p").normal({5, 3}));
    context.create("q", Key(1).fold("q").normal({4}));
  }
  void drive(Step& step) const override { each_step(step); }
  inline static std::function<void(Step&)> each_step;
};
inline const bool kStepTester =
    describe<StepTester, NoOptions>("test-step").families({{.name = "p"}, {.name = "q", .decay_scale = 0}}).add();

/// Runs `steps` steps of a recipe with these plug-ins; `each_step` sees every one of them.
inline Learned run_steps(std::int64_t steps, const std::vector<std::string>& plugs, const Recipe& recipe,
                         std::function<void(Step&)> each_step) {
  StepTester::each_step = std::move(each_step);
  Recipe settings = recipe;
  settings.epochs = steps;
  settings.batch_size = 8;
  std::vector<std::string> all = plugs;
  all.push_back("test-step");
  return learn(toy_model(toy_backbone(), settings, all), toy_task(), {toy_source(8, 3, 1), toy_source(4, 3, 2)},
               settings, {});
}

}  // namespace recast
