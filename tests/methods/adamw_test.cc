// AdamW against PyTorch's own, 20 steps of given gradients.
#include <gtest/gtest.h>

#include "methods/reference.h"
#include "methods/with_step.h"

namespace recast {
namespace {

constexpr std::int64_t kSteps = 20;

at::Tensor gradient(const std::string& name, std::int64_t step, at::IntArrayRef shape) {
  return Key(3).fold(name, static_cast<std::uint64_t>(step)).normal(shape);
}

void expect_as_torch(double beta1, double beta2, double eps, double decay) {
  Recipe recipe = toy_recipe();
  recipe.clip_norm = 0;
  recipe.weight_decay = decay;
  recipe.rate = 1e-2;
  TensorFile question;
  question.metadata = {{"what", "adamw"},
                       {"steps", std::to_string(kSteps)},
                       {"rate", "0.01"},
                       {"beta1", option_text(beta1)},
                       {"beta2", option_text(beta2)},
                       {"eps", option_text(eps)},
                       {"decay", option_text(decay)}};
  NamedTensors ours;
  const std::string adamw =
      "adamw:beta1=" + option_text(beta1) + ",beta2=" + option_text(beta2) + ",eps=" + option_text(eps);
  run_steps(kSteps, {adamw}, recipe, [&](Step& step) {
    const std::int64_t at = step.context().at().step;
    for (Param& param : step.context().params()) {
      if (param.group != "test-step") continue;
      const std::string name = param.name.substr(param.name.find('.') + 1), id = name + "." + std::to_string(at);
      if (at == 0) question.tensors[name] = param.value.detach().clone();
      param.value.mutable_grad() = question.tensors[id] = gradient(name, at, param.value.sizes());
    }
    step.update();
    for (const Param& param : step.context().params())
      if (param.group == "test-step")
        ours[param.name.substr(param.name.find('.') + 1) + "." + std::to_string(at)] = param.value.detach().clone();
  });
  const NamedTensors theirs = python_reference("torch_reference.py", question);
  ASSERT_EQ(ours.size(), static_cast<std::size_t>(2 * kSteps));
  for (const auto& [name, tensor] : ours)
    EXPECT_LE(relative_difference(tensor, theirs.find(name)->second), 1e-6) << name;
}

TEST(AdamW, MovesAsTorchDoes) {
  RECAST_NEED_PYTHON("torch,safetensors");
  expect_as_torch(0.9, 0.999, 1e-8, 0);
}

TEST(AdamW, DecaysAsTorchDoesAndNotWhereAFamilyForbidsIt) {
  RECAST_NEED_PYTHON("torch,safetensors");
  expect_as_torch(0.9, 0.999, 1e-8, 0.3);
}

TEST(AdamW, TakesItsOptions) {
  RECAST_NEED_PYTHON("torch,safetensors");
  expect_as_torch(0.5, 0.9, 1e-3, 0.1);
}

}  // namespace
}  // namespace recast
