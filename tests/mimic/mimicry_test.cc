#include "recast/mimic/mimicry.h"

#include <gtest/gtest.h>

#include <cmath>
#include <thread>

#include "model/golden_case.h"
#include "model/toy_vit.h"
#include "recast/base/error.h"

namespace recast {
namespace {

/// The architecture with random weights; one shared buffer's worth of memory per tensor.
ModelFiles random_model(const std::string& arch) {
  ModelFiles files{architecture(arch), {}, {}};
  files.backbone = toy_tensors(files.config.vit(), 5);
  return files;
}

/// One group with one set; coefficients [L, n].
BankSolution solve_closed(const at::Tensor& weights, std::int64_t templates, std::uint64_t seed) {
  SolverGroup group{"group", weights.unbind(), templates, 1};
  group.seed = seed;
  BankSolution solution = mimicry_solver("closed").solve(std::span(&group, 1), {}).front();
  return {solution.templates, solution.coefficients.squeeze(1)};
}

TEST(Mimicry, CountsOfThePaperForVitSmall) {
  const ModelFiles source = random_model("vit_small_patch16_224");
  EXPECT_EQ(mimic(source, {.target = "attn"}).coefficients, 48);
  EXPECT_EQ(mimic(source, {.target = "mlp"}).coefficients, 96);
  const Mimicry all_three = mimic(source, {.target = "attn+mlp"});
  EXPECT_EQ(all_three.coefficients, 144);
  EXPECT_EQ(all_three.files.config.bank.members.size(), 18U);
  for (const SlotFidelity& slot : all_three.fidelity) EXPECT_EQ(slot.relative_error, 0) << slot.slot;
}

TEST(Mimicry, IsExactToTheBitWhereThereAreEnoughTemplates) {
  for (const MimicryOptions& options : {MimicryOptions{.target = "all", .groups = 1, .templates = 2, .sets = 1},
                                        MimicryOptions{.target = "all", .groups = 2, .templates = 1, .sets = 3},
                                        MimicryOptions{.target = "attn", .groups = 1, .templates = 5, .sets = 7}}) {
    ModelFiles source = toy_vit();
    source.backbone.at("blocks.0.attn.qkv.weight")[0] = -0.0;  // the sign of zero counts too
    const auto original = make_backbone(source);
    const Mimicry got = mimic(source, options);
    const auto mimicked = make_backbone(got.files);
    for (const Slot& slot : original->anatomy().slots) {
      if (slot.kind != SlotKind::kWeight) continue;
      const at::Tensor a = original->weight(slot), b = mimicked->weight(slot);
      EXPECT_TRUE(a.view(at::kInt).equal(b.view(at::kInt))) << slot.name;
    }
    for (const SlotFidelity& slot : got.fidelity) {
      EXPECT_EQ(slot.relative_error, 0);
      EXPECT_NEAR(slot.cosine, 1, 1e-12);
    }
    EXPECT_TRUE(plain_features(*mimicked, toy_images(3)).equal(plain_features(*original, toy_images(3))));
  }
}

TEST(Mimicry, LeavesEverythingElseAsItWas) {
  const ModelFiles source = toy_vit();
  const ModelFiles files = mimic(source, {.target = "attn+mlp", .groups = 2}).files;
  for (const auto& [name, tensor] : source.backbone) {
    const bool covered = name.ends_with("qkv.weight") || name.ends_with("fc1.weight") || name.ends_with("fc2.weight");
    EXPECT_EQ(files.backbone.contains(name), !covered) << name;
    EXPECT_TRUE(covered || files.backbone.at(name).equal(tensor)) << name;
  }
}

TEST(Mimicry, FillsTheSlotsThatABankCovers) {
  const Mimicry got = mimic(toy_vit(1, toy_vit_config(5)), {.target = "all", .groups = 2, .templates = 3, .sets = 4});
  const auto backbone = make_backbone(got.files);
  const Slot& slot = backbone->anatomy().at("blocks.3.mlp.fc2");
  EXPECT_EQ(slot.bank.sizes(), at::IntArrayRef({3, 32, 64}));
  EXPECT_EQ(slot.coefficients.sizes(), at::IntArrayRef({4, 3}));
  EXPECT_EQ(got.files.config.bank.members.at(static_cast<std::size_t>(slot.group)).name, "mlp.fc2.1");
  EXPECT_EQ(backbone->anatomy().at("patch_embed").group, -1);
  EXPECT_EQ(got.coefficients, 5 * 4 * 4 * 3);
  // 5 layers in 2 runs: 2 and 3.
  EXPECT_EQ(got.files.config.bank.members[0].slots.size(), 2U);
  EXPECT_EQ(got.files.config.bank.members[1].slots.size(), 3U);
}

TEST(ClosedSolver, EqualsADenseSvdWhereThereAreFewerTemplates) {
  const at::Tensor weights =
      Key(11).normal({6, 20, 10}) * at::tensor({5., 4., 3., 2., 1., 0.5}, at::kFloat).view({6, 1, 1});
  const at::Tensor stacked = weights.flatten(1).to(at::kDouble);
  const auto [u, s, vh] = at::linalg_svd(stacked, /*full_matrices=*/false);
  for (const std::int64_t n : {1, 2, 3, 5}) {
    const BankSolution got = solve_closed(weights, n, 1);
    EXPECT_EQ(got.templates.sizes(), at::IntArrayRef({n, 20, 10}));
    const at::Tensor best = at::mm(u.slice(1, 0, n) * s.slice(0, 0, n), vh.slice(0, 0, n));
    const at::Tensor rebuilt = at::mm(got.coefficients, got.templates.flatten(1)).to(at::kDouble);
    EXPECT_LT(difference(rebuilt, best), 1e-5) << n;
    const double residual = (rebuilt - stacked).square().sum().item<double>();
    EXPECT_NEAR(residual, s.slice(0, n).square().sum().item<double>(), 1e-4 * residual) << n;
  }
}

TEST(ClosedSolver, SumsOverChunksOfLargeWeights) {
  const at::Tensor weights = Key(12).normal({3, 600, 700});  // more columns than one chunk
  const BankSolution got = solve_closed(weights, 2, 1);
  const auto [u, s, vh] = at::linalg_svd(weights.flatten(1).to(at::kDouble), false);
  const at::Tensor rebuilt = at::mm(got.coefficients, got.templates.flatten(1)).to(at::kDouble);
  const double residual = (rebuilt - weights.flatten(1)).square().sum().item<double>();
  const double expected = s[2].item<double>() * s[2].item<double>();
  EXPECT_NEAR(residual, expected, 1e-4 * expected);
}

TEST(ClosedSolver, RebuildsEqualLayersFromOneTemplate) {
  const at::Tensor one = Key(13).normal({1, 8, 8});
  const at::Tensor weights = at::cat({one, one * 2, one * -0.5});
  const BankSolution got = solve_closed(weights, 1, 1);
  EXPECT_LT(difference(at::mm(got.coefficients, got.templates.flatten(1)), weights.flatten(1)), 1e-6);
}

TEST(ClosedSolver, GivesTheSameForTheSameWeights) {
  const at::Tensor weights = Key(14).normal({4, 16, 16});
  for (const std::int64_t n : {2, 4, 7}) {
    const BankSolution a = solve_closed(weights, n, 3), b = solve_closed(weights, n, 3);
    EXPECT_TRUE(a.templates.equal(b.templates) && a.coefficients.equal(b.coefficients)) << n;
  }
}

TEST(ClosedSolver, FillsTemplatesBeyondTheLayersWithRandomDirections) {
  const at::Tensor weights = Key(15).normal({2, 64, 64}) * 0.03;
  const BankSolution got = solve_closed(weights, 4, 3);
  EXPECT_TRUE(got.templates.slice(0, 0, 2).equal(weights));
  EXPECT_TRUE(got.coefficients.equal(at::eye(2, 4)));
  EXPECT_NEAR(got.templates.slice(0, 2).std().item<double>(), 0.03, 0.002);
  EXPECT_FALSE(got.templates[2].equal(got.templates[3]));
  EXPECT_FALSE(solve_closed(weights, 4, 4).templates[2].equal(got.templates[2]));
}

TEST(Mimicry, SaysHowMuchOfEachSlotIsLost) {
  const ModelFiles source = toy_vit(1, toy_vit_config(4));
  const Mimicry got = mimic(source, {.target = "attn", .groups = 1, .templates = 2});
  const auto original = make_backbone(source), mimicked = make_backbone(got.files);
  ASSERT_EQ(got.fidelity.size(), 4U);
  for (const SlotFidelity& slot : got.fidelity) {
    const at::Tensor w = original->weight(original->anatomy().at(slot.slot)).to(at::kDouble);
    const at::Tensor r = mimicked->weight(mimicked->anatomy().at(slot.slot)).to(at::kDouble);
    EXPECT_NEAR(slot.relative_error, ((w - r).norm() / w.norm()).item<double>(), 1e-9);
    EXPECT_GT(slot.relative_error, 0.1);
    EXPECT_NEAR(slot.cosine, ((w * r).sum() / (w.norm() * r.norm())).item<double>(), 1e-9);
  }
}

TEST(Mimicry, TellsTheErrorOfAllSlotsTogether) {
  const ModelFiles source = toy_vit(1, toy_vit_config(4));
  const Mimicry got = mimic(source, {.target = "all", .groups = 1, .templates = 2});
  const auto original = make_backbone(source), mimicked = make_backbone(got.files);
  double left = 0, given = 0;
  for (const SlotFidelity& slot : got.fidelity) {
    const at::Tensor w = original->weight(original->anatomy().at(slot.slot)).to(at::kDouble);
    const at::Tensor r = mimicked->weight(mimicked->anatomy().at(slot.slot)).to(at::kDouble);
    left += (w - r).square().sum().item<double>();
    given += w.square().sum().item<double>();
  }
  EXPECT_NEAR(relative_error(got.fidelity), std::sqrt(left / given), 1e-12);
}

TEST(Mimicry, EverySolverMakesAModelThatLosesNoLessThanClosed) {
  const ModelFiles source = toy_vit(1, toy_vit_config(4));
  MimicryOptions options{.target = "attn+mlp", .groups = 2, .templates = 1, .sets = 3};
  const double closed = relative_error(mimic(source, options).fidelity);
  options.steps = 400;
  for (const char* solver : {"gradient", "encoder"}) {
    options.solver = solver;
    const Mimicry got = mimic(source, options);
    EXPECT_EQ(got.files.config.bank.solver, solver);
    EXPECT_EQ(got.files.bank.at("blocks.2.mlp.fc1.coefficients").sizes(), at::IntArrayRef({3, 1}));
    EXPECT_GE(relative_error(got.fidelity), closed) << solver;
    EXPECT_LT(relative_error(got.fidelity), 1) << solver;
    EXPECT_EQ(mimic(source, options).files.fingerprint(), got.files.fingerprint()) << solver;
    MimicryOptions other = options;
    other.seed = 7;
    EXPECT_NE(mimic(source, other).files.fingerprint(), got.files.fingerprint()) << solver;
  }
}

TEST(Mimicry, TakesAMimickedModelAgain) {
  const ModelFiles source = toy_vit();
  const ModelFiles once = mimic(source, {.target = "attn", .groups = 1}).files;
  const ModelFiles twice = mimic(once, {.target = "mlp", .groups = 2, .templates = 1}).files;
  EXPECT_EQ(twice.config.bank.target, "mlp");
  EXPECT_TRUE(twice.backbone.at("blocks.1.attn.qkv.weight").equal(source.backbone.at("blocks.1.attn.qkv.weight")));
  EXPECT_EQ(mimic(once, {.target = "mlp", .groups = 2, .templates = 1}).files.fingerprint(),
            mimic(source, {.target = "mlp", .groups = 2, .templates = 1}).files.fingerprint());
}

TEST(Mimicry, RefusesImpossibleOptions) {
  const auto text = [](const MimicryOptions& options) -> std::string {
    try {
      mimic(toy_vit(), options);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kInvalidArgument) << error.what();
      return error.what();
    }
    return "";
  };
  EXPECT_NE(text({.target = "atn"}).find("did you mean attn?"), std::string::npos);
  EXPECT_NE(text({.groups = 1, .solver = "close"}).find("did you mean closed?"), std::string::npos);
  EXPECT_NE(text({.groups = 3}).find("groups must lie in 1..2, got 3"), std::string::npos);
  EXPECT_NE(text({.groups = -1}).find("got -1"), std::string::npos);
  EXPECT_NE(text({.groups = 1, .templates = -1}).find("templates"), std::string::npos);
  EXPECT_NE(text({.target = "conv"}).find("toy_vit is a vision transformer and has no slots of target conv: take attn"),
            std::string::npos);
  EXPECT_NE(text({.groups = 1, .sets = -1}).find("sets"), std::string::npos);
  EXPECT_NE(text({.groups = 1, .solver = "gradient", .steps = -1}).find("steps must lie"), std::string::npos);
  EXPECT_NE(text({.groups = 1, .solver = "gradient", .rate = -1}).find("--rate"), std::string::npos);
  EXPECT_NE(text({.groups = 1, .solver = "encoder", .rate = NAN}).find("--rate"), std::string::npos);
  EXPECT_NE(text({.groups = 1, .steps = 10}).find("closed takes no steps"), std::string::npos);
}

// The rebuilt copy of a covered weight is not made where a plug-in brings its own.
TEST(Mimicry, CoveredWeightsAreRebuiltAtFirstUseFromAnyThreadAndInInferenceMode) {
  const auto backbone = make_backbone(mimic(toy_vit(), {.target = "attn", .groups = 1}).files);
  const Slot& slot = backbone->anatomy().at("blocks.1.attn.qkv");
  {
    const c10::InferenceMode inference;
    EXPECT_FALSE(backbone->weight(slot).is_inference());
  }
  std::vector<at::Tensor> got(4);
  std::vector<std::thread> threads;
  const Slot& other = backbone->anatomy().at("blocks.0.attn.qkv");
  for (at::Tensor& out : got) threads.emplace_back([&] { out = backbone->weight(other); });
  for (std::thread& thread : threads) thread.join();
  for (const at::Tensor& out : got) EXPECT_TRUE(out.is_same(got[0]));
}

class MimickedParity : public testing::TestWithParam<std::string> {};

TEST_P(MimickedParity, EqualsTheLibraryAndTheOriginal) {
  const GoldenCase golden(GetParam());
  const auto original = make_backbone(golden.imported.files);
  const bool vit = std::holds_alternative<VitConfig>(golden.imported.files.config.network);
  const auto mimicked = make_backbone(mimic(golden.imported.files, {.target = vit ? "all" : "conv"}).files);
  for (const int size : golden.sizes()) {
    const at::Tensor features = plain_features(*mimicked, golden.images_at(size));
    EXPECT_LT(difference(features, golden.features_at(size)), 1e-4) << size;
    EXPECT_LT(difference(features, plain_features(*original, golden.images_at(size))), 1e-5) << size;
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, MimickedParity, testing::ValuesIn(golden_cases()),
                         [](const auto& info) { return info.param; });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(MimickedParity);

}  // namespace
}  // namespace recast
