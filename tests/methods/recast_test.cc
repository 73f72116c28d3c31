// RECAST: counts, exactness, gradients of the coefficients, sets that never part, a second implementation.
#include <gtest/gtest.h>

#include "conformance/toy_source.h"
#include "methods/real_task.h"
#include "methods/reference.h"

namespace recast {
namespace {

const std::vector<std::string> kGrains = {"slot", "part", "head", "block"};

/// ViT-S/16 under templates: its size is what counts here, so all weights are zero.
std::shared_ptr<const Backbone> vit_small(const std::string& target) {
  ModelFiles files;
  files.config = architecture("vit_small_patch16_224");
  for (const auto& [name, shape] : backbone_tensors(files.config.vit)) files.backbone[name] = at::zeros(shape);
  MimicryOptions options;
  options.target = target;
  return make_backbone(mimic(files, options).files);
}

/// The toy ViT under templates; fewer than there are slots make it lossy.
std::shared_ptr<const Backbone> toy(std::int64_t templates = 2, std::int64_t sets = 2) {
  MimicryOptions options;
  options.target = "all";
  options.groups = 1;
  options.templates = templates;
  options.sets = sets;
  return make_backbone(mimic(toy_vit(), options).files);
}

Learned learn_recast(const std::shared_ptr<const Backbone>& backbone, const std::string& grain, std::int64_t epochs) {
  const Recipe recipe = toy_recipe(epochs);
  return learn(toy_model(backbone, recipe, {"recast:grain=" + grain}), toy_task(), toy_sources(20), recipe, {});
}

const State& coefficients(const Learned& learned) { return learned.model.numbers().at("recast", Scope::kTask); }

std::int64_t count(const State& state) {
  std::int64_t numbers = 0;
  for (const auto& [name, number] : state) numbers += std::get<at::Tensor>(number).numel();
  return numbers;
}

std::vector<std::string> covered_slots(const Backbone& backbone) {
  std::vector<std::string> names;
  for (const Slot& slot : backbone.anatomy().slots)
    if (slot.bank.defined()) names.push_back(slot.name);
  return names;
}

TEST(Recast, CountsThePapersNumbersOnVitSmall) {
  for (const auto& [target, numbers] :
       std::map<std::string, std::int64_t>{{"attn", 48}, {"mlp", 96}, {"attn+mlp", 144}}) {
    const Learned learned = learn_recast(vit_small(target), "slot", 0);
    EXPECT_EQ(count(coefficients(learned)), numbers) << target;
    EXPECT_EQ(coefficients(learned).bytes(), 4 * numbers) << target;
  }
}

TEST(Recast, CountsTheNumbersOfEachGrainOnVitSmall) {
  const auto attn = vit_small("attn"), all = vit_small("all");
  EXPECT_EQ(count(coefficients(learn_recast(attn, "part", 0))), 48 * 3);
  EXPECT_EQ(count(coefficients(learn_recast(attn, "head", 0))), 48 * 18);
  EXPECT_EQ(count(coefficients(learn_recast(attn, "block", 0))), 48 * 18);
  // qkv 18 blocks of 64 rows, proj 6 of columns, fc1 24 of rows, fc2 24 of columns; 12 layers, K n = 4.
  EXPECT_EQ(count(coefficients(learn_recast(all, "block", 0))), 12 * (18 + 6 + 24 + 24) * 4);
  // qkv 18 heads, proj 6; a slot without heads keeps one block.
  EXPECT_EQ(count(coefficients(learn_recast(all, "head", 0))), 12 * (18 + 6 + 1 + 1) * 4);
}

TEST(Recast, StartsExactAtEveryGrain) {
  const auto backbone = toy();
  for (const std::string& grain : kGrains) {
    const State made = learn_recast(backbone, grain, 0).model.weights();
    for (const std::string& slot : covered_slots(*backbone))
      EXPECT_TRUE(at::equal(made.tensor(slot), backbone->weight(backbone->anatomy().at(slot)))) << grain << " " << slot;
  }
}

TEST(Recast, StartsAtTheCoefficientsOfALossyMimicry) {
  const auto backbone = toy(/*templates=*/1);
  for (const std::string& grain : kGrains) {
    const Learned learned = learn_recast(backbone, grain, 0);
    for (const std::string& name : covered_slots(*backbone)) {
      const Slot& slot = backbone->anatomy().at(name);
      const at::Tensor c = coefficients(learned).tensor("c@" + name);
      EXPECT_TRUE(at::equal(c, slot.coefficients.unsqueeze(1).expand_as(c))) << grain << " " << name;
      EXPECT_LE(relative_difference(learned.model.weights().tensor(name), backbone->weight(slot)), 1e-6);
    }
  }
}

/// A model whose coefficients are random and want gradients.
Model random_model(const std::shared_ptr<const Backbone>& backbone, const std::string& grain) {
  Model model = learn_recast(backbone, grain, 0).model;
  State& own = model.numbers().at("recast", Scope::kTask);
  for (const auto& [name, number] : State(own))
    own.set(name, Key(5).fold(name).normal(std::get<at::Tensor>(number).sizes()).set_requires_grad(true));
  return model;
}

TEST(Recast, CoefficientGradientsAreInnerProductsWithTheTemplates) {
  const auto backbone = toy();
  const std::string name = "blocks.1.attn.qkv";
  const Slot& slot = backbone->anatomy().at(name);
  const at::Tensor g = Key(6).fold("g").normal(slot.shape).to(at::kDouble);
  const Model model = random_model(backbone, "slot");
  at::Tensor c = model.numbers().at("recast", Scope::kTask).tensor("c@" + name);
  const auto loss = [&] { return (model.weights().tensor(name).to(at::kDouble) * g).sum(); };
  loss().backward();
  // The loss is linear in c: a central difference has no truncation error, so its step may be large.
  const double h = 0.5;
  at::Tensor values = c.detach();
  for (std::int64_t k = 0; k < 2; ++k)
    for (std::int64_t i = 0; i < 2; ++i) {
      const double by_template = (g * slot.bank[i].to(at::kDouble)).sum().item<double>() / 2;  // <dL/dW, T_i> / K
      const float kept = values[k][0][i].item<float>();
      values[k][0][i] = kept + h;
      const double above = loss().item<double>();
      values[k][0][i] = kept - h;
      const double below = loss().item<double>();
      values[k][0][i] = kept;
      EXPECT_NEAR((above - below) / (2 * h), by_template, 1e-6 * std::abs(by_template) + 1e-5);
      EXPECT_NEAR(c.grad()[k][0][i].item<double>(), by_template, 1e-6 * std::abs(by_template) + 1e-5);
    }
}

TEST(Recast, EqualSetsGetEqualGradientsAndNeverPart) {
  const auto backbone = toy();
  for (const std::string& grain : kGrains) {
    const Learned learned = learn_recast(backbone, grain, 3);
    bool moved = false;
    for (const auto& [name, number] : coefficients(learned)) {
      const at::Tensor c = std::get<at::Tensor>(number);
      ASSERT_EQ(c.size(0), 2);
      EXPECT_TRUE(at::equal(c[0], c[1])) << grain << " " << name;
      moved = moved || !at::equal(c[0][0], backbone->anatomy().at(name.substr(2)).coefficients[0]);
    }
    EXPECT_TRUE(moved) << "nothing was learned: the test proves nothing";
  }
}

/// Rows or columns that share a coefficient, from the definition of the grains.
std::int64_t block_length(const Slot& slot, const std::string& grain, std::int64_t side) {
  if (grain == "part" && slot.role == "attn.qkv") return side / 3;
  if (grain == "head" && slot.role.starts_with("attn.")) return 16;  // width 32 in two heads
  return grain == "block" ? std::min<std::int64_t>(64, side) : side;
}

TEST(Recast, AgreesWithAnIndependentImplementation) {
  RECAST_NEED_PYTHON("torch,safetensors");
  const auto backbone = toy(/*templates=*/3, /*sets=*/2);
  TensorFile question;
  NamedTensors ours;
  std::map<std::string, double> allowed;
  for (const std::string& grain : kGrains) {
    const Model model = random_model(backbone, grain);
    const State weights = model.weights();
    for (const std::string& name : covered_slots(*backbone)) {
      const Slot& slot = backbone->anatomy().at(name);
      const std::string id = name + "|" + grain;
      const at::Tensor c = model.numbers().at("recast", Scope::kTask).tensor("c@" + name);
      const at::Tensor g = Key(8).fold(id).normal(slot.shape);
      (weights.tensor(name) * g).sum().backward();
      const bool columns = slot.role == "attn.proj" || slot.role == "mlp.fc2";
      const std::int64_t side = slot.shape[columns ? 1 : 0];
      question.tensors[id + ".templates"] = slot.bank;
      question.tensors[id + ".coefficients"] = c.detach();
      question.tensors[id + ".gradient"] = g;
      question.metadata[id] = (columns ? "columns " : "rows ") + std::to_string(block_length(slot, grain, side));
      // An element of the gradient is an inner product in fp32: its error is that of the sum, not of its result.
      allowed[id + ".weight"] = 1e-6;
      allowed[id + ".coefficient_gradient"] =
          1e-6 + (std::numeric_limits<float>::epsilon() * g.norm() * slot.bank[0].norm() / c.grad().abs().max())
                     .item<double>();
      ours[id + ".weight"] = weights.tensor(name).detach();
      ours[id + ".coefficient_gradient"] = c.grad();
    }
  }
  const NamedTensors theirs = python_reference("recast_reference.py", question);
  ASSERT_EQ(theirs.size(), ours.size());
  for (const auto& [name, tensor] : ours)
    EXPECT_LE(relative_difference(tensor, theirs.find(name)->second), allowed[name]) << name;
}

// What the coefficients gain over the head alone, on real images. The short form asks that they fit the training images
// better; the full form asks for accuracy on test images, mean of three seeds.
TEST(RecastEffect, CoefficientsGainOverTheHeadAlone) {
  RECAST_NEED_REAL_TASK();
  const TemporaryFolder folder;
  MimicryOptions options;
  options.target = "all";
  options.sets = 1;
  make_zoo_model(folder.path(), options);
  double gain = 0;
  const std::vector<std::uint64_t> seeds =
      full_effects() ? std::vector<std::uint64_t>{42, 1998, 3142592} : std::vector<std::uint64_t>{42};
  for (const std::uint64_t seed : seeds) {
    const nlohmann::json head = learn_fashion(folder.path(), "linear-probe", seed);
    const nlohmann::json recast = learn_fashion(folder.path(), "recast:grain=block", seed);
    EXPECT_EQ(recast["coefficients"], 1728);
    EXPECT_GE(recast["validation"]["top1"], head["validation"]["top1"]) << "never below the head alone on validation";
    const double before = recast["history"][1]["train_loss"], after = recast["history"][3]["train_loss"];
    EXPECT_LT(after, before) << "training loss of the last epoch against the first";
    gain +=
        (recast["test"]["top1"].get<double>() - head["test"]["top1"].get<double>()) / static_cast<double>(seeds.size());
    std::printf("seed %d: head %.4f, recast %.4f (test top1), kept %s, %.1f + %.1f s\n", static_cast<int>(seed),
                head["test"]["top1"].get<double>(), recast["test"]["top1"].get<double>(),
                recast["kept"].get<std::string>().c_str(), head["seconds"].get<double>(),
                recast["seconds"].get<double>());
  }
  std::printf("mean gain %.4f over %zu seeds\n", gain, seeds.size());
  if (full_effects()) EXPECT_GT(gain, 0.01);
}

}  // namespace
}  // namespace recast
