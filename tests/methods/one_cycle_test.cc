// One-cycle against PyTorch's OneCycleLR.
#include <gtest/gtest.h>

#include "methods/reference.h"
#include "recast/method/registry.h"

namespace recast {
namespace {

at::Tensor factors(std::int64_t steps, double warm, double div, double final_div) {
  const auto method =
      Registry::instance()
          .find("one-cycle")
          .make({{"warm", option_text(warm)}, {"div", option_text(div)}, {"final_div", option_text(final_div)}});
  at::Tensor out = at::zeros({steps}, at::kDouble);
  for (std::int64_t step = 0; step < steps; ++step)
    out[step] = method->roles().update->rate("group", 0, Counters{.step = step, .total_steps = steps});
  return out;
}

TEST(OneCycle, GivesTorchsRates) {
  RECAST_NEED_PYTHON("torch,safetensors");
  struct Case {
    std::int64_t steps;
    double warm, div, final_div;
  };
  for (const Case& c :
       {Case{150, 0.3, 25, 1e4}, Case{37, 0.3, 25, 1e4}, Case{40, 0.1, 10, 100}, Case{11, 0, 25, 1e4}}) {
    TensorFile question;
    question.metadata = {{"what", "one_cycle"},
                         {"steps", std::to_string(c.steps)},
                         {"warm", option_text(c.warm)},
                         {"div", option_text(c.div)},
                         {"final_div", option_text(c.final_div)}};
    const at::Tensor theirs = python_reference("torch_reference.py", question).at("factors");
    EXPECT_LE((factors(c.steps, c.warm, c.div, c.final_div) - theirs).abs().max().item<double>(), 1e-12) << c.steps;
  }
}

TEST(OneCycle, StaysFiniteAndPositiveInRunsOfAFewSteps) {
  for (const std::int64_t steps : {1, 2, 3, 4, 5})
    for (const double warm : {0.0, 0.25, 0.3, 0.5, 0.99}) {
      const at::Tensor rates = factors(steps, warm, 25, 1e4);
      EXPECT_TRUE(rates.gt(0).logical_and(rates.le(1)).all().item<bool>()) << steps << " " << warm;
    }
}

}  // namespace
}  // namespace recast
