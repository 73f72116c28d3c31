// What holds of every plug-in when several ranks share the work.
#include <ATen/Parallel.h>
#include <gmock/gmock.h>

#include "comm/ranks_in_threads.h"
#include "conformance/plug_cases.h"

namespace recast {
namespace {
using testing::AnyOf;
using testing::Each;
using testing::HasSubstr;
using testing::IsEmpty;

/// The widest difference between two sets of numbers, in units of each tensor's largest value or 1.
double widest_difference(const Numbers& one, const Numbers& other) {
  double widest = 0;
  for (const auto& [plug, scopes] : one.plugs())
    for (const auto& [scope, state] : scopes)
      for (const auto& [name, number] : state) {
        const auto* tensor = std::get_if<at::Tensor>(&number);
        if (!tensor) continue;
        const at::Tensor theirs = other.at(plug, scope).tensor(name);
        if (theirs.sizes() != tensor->sizes()) return INFINITY;
        if (tensor->numel() == 0) continue;
        const at::Tensor a = tensor->to(at::kDouble), b = theirs.to(at::kDouble);
        const double scale = std::max(1.0, a.abs().max().item<double>());
        widest = std::max(widest, (a - b).abs().max().item<double>() / scale);
      }
  return widest;
}

/// AdamW divides a gradient by its own size, so one that is nothing but rounding, as that of a key's bias, would move
/// its number by the whole rate: here it stays what it is.
Learned learn_toy(const std::string& plug, Ranks* ranks = nullptr) {
  PlugCase run(plug);
  run.recipe.plugs = {parse_plug("ce"), parse_plug("adamw:eps=0.01")};
  run.start = plug_model(run.backbone, run.recipe, plug);
  Budget budget;
  budget.ranks = ranks;
  return run.learn(budget);
}

class SharedLearning : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Plugin, SharedLearning, testing::ValuesIn(plug_variants()), case_name);

TEST_P(SharedLearning, ComesToTheNumbersOfOneProcess) {
  const Learned alone = learn_toy(GetParam());
  std::vector<Learned> shared(3, alone);
  const std::vector<std::string> errors = run_ranks(3, {}, [&](Ranks& ranks) {
    at::set_num_threads(1);
    shared[static_cast<std::size_t>(ranks.rank())] = learn_toy(GetParam(), &ranks);
  });
  if (!errors[0].empty()) {
    EXPECT_THAT(errors, Each(HasSubstr("which several ranks cannot share: learn with one process")));
    return;
  }
  EXPECT_THAT(errors, Each(IsEmpty()));
  for (const Learned& learned : shared) {
    EXPECT_LE(widest_difference(alone.model.numbers(), learned.model.numbers()), 1e-6);
    EXPECT_TRUE(equal(shared[0].model.numbers(), learned.model.numbers())) << "all ranks have the same bits";
    EXPECT_EQ(learned.validation.confusion, alone.validation.confusion);
    EXPECT_EQ(learned.kept, alone.kept);
  }
  if (!learns_in_phases(alone)) return;
  EXPECT_TRUE(equal(alone.model.numbers(), shared[0].model.numbers())) << "what passes find is gathered, not summed";
}

TEST(SharedSteps, ARankMayHaveNoRowOfALastBatch) {
  const Learned alone = learn_toy("recast");
  std::optional<Learned> shared;
  EXPECT_THAT(run_ranks(5, {},
                        [&](Ranks& ranks) {
                          at::set_num_threads(1);
                          Learned learned = learn_toy("recast", &ranks);
                          if (ranks.first()) shared = std::move(learned);
                        }),
              Each(IsEmpty()));
  EXPECT_LE(widest_difference(alone.model.numbers(), shared->model.numbers()), 1e-6);
  EXPECT_GT(shared->step_bytes, 0);
}

TEST(SharedSteps, ABatchNeedsARowForEachRank) {
  EXPECT_THAT(run_ranks(9, {}, [&](Ranks& ranks) { learn_toy("recast", &ranks); }),
              Each(HasSubstr("9 ranks cannot share batches of 8 rows")));
}

}  // namespace
}  // namespace recast
