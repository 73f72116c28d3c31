// RECAST: counts, exactness, gradients of the coefficients, sets that never part, a second implementation, coefficients
// chosen by their gradients, what is stored in fewer bits.
#include <gtest/gtest.h>
#include <torch/csrc/autograd/function.h>

#include "carry/carry_case.h"
#include "format/expect_error.h"
#include "methods/real_task.h"
#include "methods/reference.h"
#include "model/toy_cnn.h"
#include "recast/format/positions.h"
#include "recast/format/tensor_file.h"
#include "recast/method/numbers_file.h"
#include "recast/model/blockwise_sum.h"
#include "recast/model/sum_features.h"

namespace recast {
namespace {

const std::vector<std::string> kGrains = {"slot", "part", "head", "block", "block,block=16", "block,block=7"};

/// ViT-S/16 under templates: its size is what counts here, so all weights are zero.
std::shared_ptr<const Backbone> vit_small(const std::string& target) {
  ModelFiles files;
  files.config = architecture("vit_small_patch16_224");
  for (const auto& [name, shape] : backbone_tensors(files.config.network)) files.backbone[name] = at::zeros(shape);
  MimicryOptions options;
  options.target = target;
  return make_backbone(mimic(files, options).files);
}

const std::vector<std::string> kTargets = {"attn", "mlp", "attn+mlp", "all"};

/// The toy ViT under templates; fewer than there are slots make it lossy.
std::shared_ptr<const Backbone> toy(std::int64_t templates = 2, std::int64_t sets = 2,
                                    const std::string& target = "all") {
  MimicryOptions options;
  options.target = target;
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

/// Mean cross-entropy of the logits, in double.
at::Tensor cross_entropy(const Model& model, const Batch& batch) {
  const at::Tensor logits = model.forward(batch, {}).at("logits").to(at::kDouble);
  return -at::log_softmax(logits, 1).gather(1, batch.column("label").unsqueeze(1)).mean();
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
  EXPECT_EQ(count(coefficients(learn_recast(all, "block,block=128", 0))), 12 * (9 + 3 + 12 + 12) * 4);
  // qkv 18 heads, proj 6; a slot without heads keeps one block.
  EXPECT_EQ(count(coefficients(learn_recast(all, "head", 0))), 12 * (18 + 6 + 1 + 1) * 4);
}

TEST(Recast, StartsExactAtEveryGrainOfEveryTarget) {
  const auto original = make_backbone(toy_vit());
  PlainRoute plain(*original);
  const Batch batch = toy_batch(*toy_sources(20).validation, {0, 1, 2, 3});
  const at::Tensor expected = original->features(batch.column("input"), plain);
  for (const std::string& target : kTargets)
    for (const std::int64_t templates : {2, 3}) {
      const auto backbone = toy(templates, 2, target);
      for (const std::string& grain : kGrains) {
        const Model model = learn_recast(backbone, grain, 0).model;
        const State made = model.weights();
        for (const std::string& slot : covered_slots(*backbone))
          EXPECT_TRUE(at::equal(made.tensor(slot), original->weight(original->anatomy().at(slot))))
              << target << " " << grain << " " << slot;
        EXPECT_TRUE(at::equal(model.features(batch, {}), expected)) << target << " " << grain;
      }
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

/// The same features, through the backbone's pass for sums of templates or operator by operator.
TEST(Recast, GoesThroughThePassForSumsWhereNothingElseActs) {
  const auto backbone = toy();
  const Batch batch = toy_batch(*toy_sources(20).validation, {0, 1, 2, 3});
  const auto* sums = dynamic_cast<const SumFeatures*>(backbone.get());
  ASSERT_NE(sums, nullptr);
  if (!sums->why_no_sum_features(batch.column("input"), {}, at::kFloat).empty()) GTEST_SKIP() << "no products of fp32";
  const auto whole = [](const at::Tensor& features) { return features.grad_fn()->name().ends_with("VitFunction>"); };
  const Model model = random_model(backbone, "slot");
  const at::Tensor features = model.features(batch, {});
  EXPECT_TRUE(whole(features)) << features.grad_fn()->name();
  recast::Run tapped;
  tapped.taps = {"blocks.0.attn"};
  const at::Tensor by_operators = model.features(batch, tapped);
  EXPECT_FALSE(whole(by_operators));
  EXPECT_LT(relative_difference(features.detach(), by_operators.detach()), 1e-5);
  const Recipe recipe = toy_recipe(0);
  for (const std::string other : {"lora", "adaptformer", "norm-tuning"}) {
    Model both = learn(toy_model(backbone, recipe, {"recast", other}), toy_task(), toy_sources(20), recipe, {}).model;
    const State& own = both.numbers().at("recast", Scope::kTask);
    for (const auto& [name, number] : own) own.tensor(name).set_requires_grad(true);
    EXPECT_FALSE(whole(both.features(batch, {}))) << other;
  }
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

/// A central difference of the loss along a random direction, every grain of every target. The pass runs in fp32: a
/// loss carries about 32 epsilon |logit| of noise, which the difference divides by h; h^2 of truncation is bounded by
/// what halving h changes.
TEST(Recast, LossGradientsAreThoseOfDifferencesAtEveryGrainOfEveryTarget) {
  const Batch batch = toy_batch(*toy_sources(20).validation, {0, 1, 2, 3});
  const auto loss = [&](const Model& model) { return cross_entropy(model, batch); };
  for (const std::string& target : kTargets)
    for (const std::string& grain : kGrains) {
      SCOPED_TRACE(target + " " + grain);
      const Model model = learn_recast(toy(2, 2, target), grain, 0).model;
      const State start = coefficients(learn_recast(toy(2, 2, target), grain, 0));
      State direction, at_start = start.clone();
      double along = 0;
      for (const auto& [name, number] : start)
        direction.set(name, Key(9).fold(name).normal(start.tensor(name).sizes()));
      for (const auto& [name, number] : at_start) at_start.tensor(name).set_requires_grad(true);
      loss(model.with("recast", at_start)).backward();
      for (const auto& [name, number] : at_start)
        along += (at_start.tensor(name).grad() * direction.tensor(name)).sum().item<double>();
      const auto difference = [&](double h) {
        State above, below;
        for (const auto& [name, number] : start) {
          above.set(name, start.tensor(name) + h * direction.tensor(name));
          below.set(name, start.tensor(name) - h * direction.tensor(name));
        }
        return (loss(model.with("recast", above)).item<double>() - loss(model.with("recast", below)).item<double>()) /
               (2 * h);
      };
      const double h = 5e-3, near = difference(h), far = difference(2 * h);
      const double noise = 32 * std::numeric_limits<float>::epsilon() *
                           model.forward(batch, {}).at("logits").abs().max().item<double>() / h;
      EXPECT_NE(along, 0);
      EXPECT_LE(std::abs(near - along), noise + std::abs(far - near)) << near << " by differences, " << along;
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
  if (!grain.starts_with("block")) return side;
  const std::size_t given = grain.find("block=");
  return std::min<std::int64_t>(given == grain.npos ? 64 : std::stoll(grain.substr(given + 6)), side);
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

// ---- kernels -------------------------------------------------------------------------------------------------------

TEST(Recast, KernelsAreCutByOutputChannelsDepthwiseOnesToo) {
  for (const char* block : {"basic", "bottleneck", "inverted"}) {
    const ModelFiles files = toy_cnn(1, toy_cnn_config(block));
    MimicryOptions options;
    options.sets = 1;
    const auto original = make_backbone(files), backbone = make_backbone(mimic(files, options).files);
    const Batch batch = toy_batch(*toy_sources(20).validation, {0, 1, 2, 3});
    PlainRoute plain(*original);
    const at::Tensor expected = original->features(batch.column("input"), plain);
    bool depthwise = false;
    for (const auto& [grain, length] : std::map<std::string, std::int64_t>{
             {"slot", 1000}, {"part", 1000}, {"head", 1000}, {"block", 64}, {"block,block=3", 3}}) {
      SCOPED_TRACE(std::string(block) + " " + grain);
      const Learned start = learn_recast(backbone, grain, 0);
      EXPECT_TRUE(at::equal(start.model.features(batch, {}), expected));
      for (const std::string& name : covered_slots(*backbone)) {
        const Slot& slot = backbone->anatomy().at(name);
        ASSERT_EQ(slot.shape.size(), 4u);
        depthwise = depthwise || (slot.shape[1] == 1 && slot.shape[2] > 1);
        const std::int64_t blocks = (slot.shape[0] + length - 1) / length;
        EXPECT_EQ(coefficients(start).tensor("c@" + name).sizes(), (at::IntArrayRef{1, blocks, slot.bank.size(0)}));
      }
      const Learned learned = learn_recast(backbone, grain, 2);
      for (const std::string& name : covered_slots(*backbone)) {
        const Slot& slot = backbone->anatomy().at(name);
        const at::Tensor c = coefficients(learned).tensor("c@" + name)[0], made = learned.model.weights().tensor(name);
        for (std::int64_t channel = 0; channel < slot.shape[0]; ++channel) {
          at::Tensor kernel = at::zeros_like(made[channel]);
          for (std::int64_t i = 0; i < slot.bank.size(0); ++i) kernel += c[channel / length][i] * slot.bank[i][channel];
          EXPECT_TRUE(at::allclose(made[channel], kernel, 1e-5, 1e-6)) << name << " channel " << channel;
        }
        EXPECT_FALSE(at::equal(c, coefficients(start).tensor("c@" + name)[0])) << name << " did not move";
      }
    }
    EXPECT_EQ(depthwise, std::string(block) == "inverted");
  }
}

TEST(Recast, RefusesABlockLengthAtAnotherGrain) {
  const std::string message = error_of(Code::kInvalidArgument, [] { learn_recast(toy(), "head,block=16", 0); });
  EXPECT_NE(message.find("grain=block"), message.npos) << message;
}

/// AdamW's first step moves every number by its learning rate, whatever the size of its gradient.
TEST(Recast, MlpCoefficientsMoveAtTheirOwnRate) {
  const auto backbone = toy();
  Recipe recipe = toy_recipe(1, /*batch_size=*/20);
  recipe.weight_decay = 0;
  const Learned learned =
      learn(toy_model(backbone, recipe, {"recast:mlp_rate=0.25"}), toy_task(), toy_sources(20), recipe, {});
  for (const std::string& name : covered_slots(*backbone)) {
    const Slot& slot = backbone->anatomy().at(name);
    const at::Tensor moved = (coefficients(learned).tensor("c@" + name).select(1, 0) - slot.coefficients).abs();
    const double rate = slot.role.starts_with("mlp.") ? 0.25 * recipe.rate : recipe.rate;
    EXPECT_NEAR(moved.max().item<double>(), rate, 0.01 * rate) << name;
  }
}

// ---- chosen by their gradients -------------------------------------------------------------------------------------

constexpr std::int64_t kKept = 20;
const std::string kSome = "block,block=16,keep=20";

/// One set: two would have every gradient twice.
std::shared_ptr<const Backbone> toy_of_one_set() { return toy(/*templates=*/2, /*sets=*/1); }

/// With a fitted head, and from more rows than a batch of a look at gradients has.
Learned learn_some(const std::shared_ptr<const Backbone>& backbone, const std::string& grain, std::int64_t epochs,
                   const Sources& sources = toy_sources(100)) {
  Recipe recipe = toy_recipe(epochs, /*batch_size=*/32);
  recipe.fit_head = true;
  return learn(toy_model(backbone, recipe, {"recast:grain=" + grain}), toy_task(), sources, recipe, {});
}

/// The backbone's own coefficients [K, B, n] of blocks of 16.
at::Tensor start_of(const Slot& slot) {
  const std::int64_t side = slot.shape[slot.role == "attn.proj" || slot.role == "mlp.fc2" ? 1 : 0];
  return slot.coefficients.unsqueeze(1).repeat({1, (side + 15) / 16, 1});
}

/// Places in [K, B, n] of those that a task keeps of a slot.
std::vector<std::int64_t> chosen_of(const State& state, const Slot& slot) {
  if (!state.has("chosen@" + slot.name)) return {};
  const at::Tensor bytes = state.tensor("chosen@" + slot.name);
  EXPECT_EQ(bytes.scalar_type(), at::kByte);
  return decode_positions({bytes.const_data_ptr<std::uint8_t>(), bytes.nbytes()}, start_of(slot).numel());
}

/// The same of all slots, as one text to compare.
std::string choice_of(const Backbone& backbone, const State& state) {
  std::string text;
  for (const std::string& name : covered_slots(backbone))
    text += fmt::format("{} {}\n", name, fmt::join(chosen_of(state, backbone.anatomy().at(name)), ","));
  return text;
}

std::int64_t kept_of(const Learned& learned) {
  return *learned.model.recipe().plug("recast").method->learned_numbers(coefficients(learned));
}

TEST(RecastKeep, TakesTheCoefficientsOfTheLargestGradients) {
  const auto backbone = toy_of_one_set();
  const Sources sources = toy_sources(100);
  const Learned all = learn_some(backbone, "block,block=16", 0), some = learn_some(backbone, kSome, 0);
  ASSERT_TRUE(equal(all.model.numbers().at("linear-probe", Scope::kTask),
                    some.model.numbers().at("linear-probe", Scope::kTask)))
      << "not at the same head";
  State c = coefficients(all).clone();
  for (const auto& [name, number] : State(c)) c.tensor(name).set_requires_grad(true);
  cross_entropy(all.model.with("recast", c), toy_batch(*sources.train, all_rows_of(*sources.train))).backward();
  std::vector<double> taken, left;
  for (const std::string& name : covered_slots(*backbone)) {
    const at::Tensor gradient = c.tensor("c@" + name).grad().flatten();
    const std::vector<std::int64_t> chosen = chosen_of(coefficients(some), backbone->anatomy().at(name));
    for (std::int64_t place = 0; place < gradient.numel(); ++place)
      (std::ranges::binary_search(chosen, place) ? taken : left).push_back(std::abs(gradient[place].item<double>()));
  }
  ASSERT_EQ(taken.size(), static_cast<std::size_t>(kKept));
  ASSERT_GT(left.size(), 2 * taken.size());
  EXPECT_GE(*std::ranges::min_element(taken), *std::ranges::max_element(left) * (1 - 1e-4));
  EXPECT_GT(*std::ranges::max_element(taken), 3 * *std::ranges::min_element(left)) << "any choice would have passed";
}

TEST(RecastKeep, TheOthersStayTheBackbonesOwnBitForBit) {
  const auto backbone = toy_of_one_set();
  const Learned learned = learn_recast(backbone, kSome, 3);
  const State made = learned.model.weights();
  std::int64_t moved = 0;
  for (const std::string& name : covered_slots(*backbone)) {
    const Slot& slot = backbone->anatomy().at(name);
    const at::Tensor start = start_of(slot);
    at::Tensor c = start.clone().flatten();
    const std::vector<std::int64_t> chosen = chosen_of(coefficients(learned), slot);
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      c[chosen[i]] = coefficients(learned).tensor("c@" + name)[static_cast<std::int64_t>(i)];
      moved += c[chosen[i]].item<float>() != start.flatten()[chosen[i]].item<float>();
    }
    const bool of_columns = slot.role == "attn.proj" || slot.role == "mlp.fc2";
    EXPECT_TRUE(
        at::equal(made.tensor(name), blockwise_sum(slot.bank, c.view(start.sizes()).mean(0), {16, of_columns})));
    if (chosen.empty()) {
      EXPECT_TRUE(at::equal(made.tensor(name), backbone->weight(slot))) << name;
    }
  }
  EXPECT_EQ(moved, kKept);
}

TEST(RecastKeep, StartsExactAtEveryGrainOfEveryTarget) {
  const auto original = make_backbone(toy_vit());
  for (const std::string& target : kTargets)
    for (const std::string& grain : kGrains) {
      const auto backbone = toy(2, 2, target);
      const Learned learned = learn_recast(backbone, grain + ",keep=3", 0);
      EXPECT_EQ(kept_of(learned), 3);
      for (const std::string& slot : covered_slots(*backbone))
        EXPECT_TRUE(at::equal(learned.model.weights().tensor(slot), original->weight(original->anatomy().at(slot))))
            << target << " " << grain << " " << slot;
    }
}

TEST(RecastKeep, StoresItsNumbersWhichTheyAreAndTheirCount) {
  const auto backbone = toy_of_one_set();
  for (const auto& [bits, bytes] : std::map<std::string, std::int64_t>{{"32", 4}, {"16", 2}, {"8", 1}}) {
    const Learned learned = learn_some(backbone, kSome + ",bits=" + bits, 2);
    const State& own = coefficients(learned);
    std::int64_t numbers = 0, expected = 8 + (bits == "32" ? 0 : 8);
    for (const std::string& name : covered_slots(*backbone)) {
      const Slot& slot = backbone->anatomy().at(name);
      const std::string values = (bits == "32" ? "c@" : "c" + bits + "@") + name;
      const auto chosen = static_cast<std::int64_t>(chosen_of(own, slot).size());
      EXPECT_EQ(own.has(values), chosen > 0) << values;
      if (chosen == 0) continue;
      EXPECT_EQ(own.tensor(values).sizes(), at::IntArrayRef{chosen});
      EXPECT_LE(own.tensor("chosen@" + name).numel(), (start_of(slot).numel() + 7) / 8);
      expected += chosen * bytes + own.tensor("chosen@" + name).numel();
      numbers += chosen;
    }
    EXPECT_EQ(numbers, kKept);
    EXPECT_EQ(kept_of(learned), kKept);
    EXPECT_EQ(learned.model.recipe().plug("recast").method->stored_bytes(own), expected) << bits;
  }
}

TEST(RecastKeep, ReadBackFromAFileItAnswersTheSame) {
  const auto backbone = toy_of_one_set();
  const Sources sources = toy_sources(20);
  for (const std::string bits : {"32", "16", "8"}) {
    const Learned learned = learn_recast(backbone, kSome + ",bits=" + bits, 2);
    TensorFile file;
    pack_numbers(learned.model.numbers(), Scope::kTask, "", file);
    const TensorFile read = decode_tensor_file(encode_tensor_file(file), "test");
    Numbers numbers;
    unpack_numbers(read, Scope::kTask, "", numbers);
    const Model loaded(toy_of_one_set(), learned.model.shared_recipe(), numbers);
    const Batch batch = toy_batch(*sources.validation, {0, 1, 2, 3});
    EXPECT_TRUE(at::equal(loaded.forward(batch, {}).at("logits"), learned.model.forward(batch, {}).at("logits")));
    EXPECT_EQ(evaluate(loaded, *sources.validation, 3, false).loss, learned.validation.loss);
    if (bits != "32") continue;
    EXPECT_TRUE(std::ranges::any_of(learned.history, [&](const EpochMetrics& metrics) {
      return metrics.stage == learned.kept && metrics.validation_loss == learned.validation.loss;
    })) << "what is stored is not what was learned";
  }
}

TEST(RecastKeep, IsChosenOnTrainingRowsAlone) {
  const auto backbone = toy_of_one_set();
  const Recipe recipe = toy_recipe(0);  // no fitted head: its strength is chosen on validation rows
  const Model start = toy_model(backbone, recipe, {"recast:grain=" + kSome});
  Sources sources = toy_sources(100);
  const Learned one = learn(start, toy_task(), sources, recipe, {});
  sources.validation = toy_source(9, 3, /*seed=*/99);
  const Learned other = learn(start, toy_task(), sources, recipe, {});
  EXPECT_EQ(choice_of(*backbone, coefficients(one)), choice_of(*backbone, coefficients(other)));
  sources.train = toy_source(100, 3, /*seed=*/98);
  const Learned others = learn(start, toy_task(), sources, recipe, {});
  EXPECT_NE(choice_of(*backbone, coefficients(one)), choice_of(*backbone, coefficients(others)));
}

TEST(RecastKeep, ABatchThatIsNotFiniteHasNoSay) {
  const auto backbone = toy_of_one_set();
  const Recipe recipe = toy_recipe(0);
  const Model start = toy_model(backbone, recipe, {"recast:grain=" + kSome});
  const auto rows = toy_source(100, 3, 11);
  at::Tensor images = rows->images().clone();
  images[0].fill_(std::numeric_limits<float>::quiet_NaN());
  const auto poisoned = std::make_shared<ToySource>(images, rows->labels());
  const auto rest = std::make_shared<ToySource>(rows->images().slice(0, 64), rows->labels().slice(0, 64));
  const auto validation = toy_sources().validation;
  const Learned with = learn(start, toy_task(), {poisoned, validation}, recipe, {});
  const Learned without = learn(start, toy_task(), {rest, validation}, recipe, {});
  EXPECT_EQ(choice_of(*backbone, coefficients(with)), choice_of(*backbone, coefficients(without)));
}

TEST(RecastKeep, ResumesBitEqualAtEveryStep) {
  Carry run({"recast:grain=" + kSome}, /*epochs=*/1);
  expect_resumable(run);
  run.recipe.fit_head = true;
  run.sources = toy_sources(70);
  expect_resumable(run);
}

TEST(RecastKeep, ATaskThatGoesOnKeepsItsChoice) {
  const auto backbone = toy_of_one_set();
  for (const std::string bits : {"32", "8"}) {
    const Learned first = learn_recast(backbone, kSome + ",bits=" + bits, 2);
    const Learned further = learn(first.model, toy_task(), toy_sources(20, 3, 12), toy_recipe(2), {});
    EXPECT_EQ(choice_of(*backbone, coefficients(first)), choice_of(*backbone, coefficients(further)));
    EXPECT_FALSE(equal(coefficients(first), coefficients(further))) << "nothing moved";
    EXPECT_EQ(kept_of(further), kKept);
  }
}

/// Goes on from `first` with another number to keep.
Learned go_on(const Learned& first, const std::string& grain) {
  const Recipe recipe = toy_recipe(0);
  Model model = toy_model(first.model.shared_backbone(), recipe, {"recast:grain=" + grain});
  model.numbers() = first.model.numbers();
  return learn(model, toy_task(), toy_sources(20), recipe, {});
}

TEST(RecastKeep, GoesOnWholeWhereARecipeAsksForIt) {
  const auto backbone = toy_of_one_set();
  const Learned first = learn_recast(backbone, kSome, 2), whole = go_on(first, "block,block=16");
  EXPECT_FALSE(coefficients(whole).has("kept"));
  for (const std::string& name : covered_slots(*backbone)) {
    EXPECT_EQ(coefficients(whole).tensor("c@" + name).sizes(), start_of(backbone->anatomy().at(name)).sizes());
    EXPECT_TRUE(at::equal(whole.model.weights().tensor(name), first.model.weights().tensor(name))) << name;
  }
}

TEST(RecastKeep, ZeroIsAll) {
  const auto backbone = toy_of_one_set();
  EXPECT_TRUE(equal(learn_some(backbone, "block,block=16,keep=0", 1).model.numbers(),
                    learn_some(backbone, "block,block=16", 1).model.numbers()));
}

TEST(RecastKeep, RefusesMoreThanThereAre) {
  const auto backbone = toy_of_one_set();
  const std::int64_t all = count(coefficients(learn_some(backbone, "block,block=16", 0)));
  EXPECT_EQ(kept_of(learn_some(backbone, fmt::format("block,block=16,keep={}", all), 0)), all);
  const std::string message = error_of(
      Code::kInvalidArgument, [&] { learn_some(backbone, fmt::format("block,block=16,keep={}", all + 1), 0); });
  EXPECT_NE(message.find(fmt::format("of {} ", all)), message.npos) << message;
  for (const char* keep : {"-1", "1.5", "some", "99999999999999999999"})
    error_of(Code::kInvalidArgument, [&] { learn_some(backbone, std::string("block,keep=") + keep, 0); });
}

TEST(RecastKeep, RefusesToGoOnWithAnotherChoice) {
  const auto backbone = toy_of_one_set();
  const Learned some = learn_some(backbone, kSome, 1), all = learn_some(backbone, "block,block=16", 1);
  const auto refusal = [&](const Learned& first, const std::string& grain) {
    return error_of(Code::kInvalidArgument, [&] { go_on(first, grain); });
  };
  const std::string other = refusal(some, "block,block=16,keep=10");
  EXPECT_NE(other.find("keep=20"), other.npos) << other;
  const std::string whole = refusal(all, kSome);
  EXPECT_NE(whole.find("keep=0"), whole.npos) << whole;
}

TEST(RecastKeep, RefusesStatesThatNobodyStored) {
  const auto backbone = toy_of_one_set();
  const Learned learned = learn_recast(backbone, kSome, 1);
  std::string slot;  // of more coefficients than a byte has bits
  for (const std::string& name : covered_slots(*backbone))
    if (coefficients(learned).has("chosen@" + name) && start_of(backbone->anatomy().at(name)).numel() > 8) slot = name;
  ASSERT_NE(slot, "");
  const auto refused = [&](Code code, const std::string& family, const at::Tensor& value) {
    State changed;
    changed.set(family + "@" + slot, value);
    return error_of(code, [&] { learned.model.with("recast", changed).weights(); });
  };
  const std::int64_t stored = coefficients(learned).tensor("c@" + slot).numel();
  EXPECT_NE(refused(Code::kShapeMismatch, "c", at::zeros({stored + 1})).find("c@" + slot), std::string::npos);
  refused(Code::kShapeMismatch, "c", at::zeros({1, stored}));
  refused(Code::kShapeMismatch, "chosen", at::zeros({1}));
  refused(Code::kDataCorruption, "chosen", at::full({1000}, 255, at::kByte));
  refused(Code::kDataCorruption, "chosen", at::full({1}, 255, at::kByte));
}

// ---- stored in fewer bits ------------------------------------------------------------------------------------------

/// Where a run of some epochs ends; `bits` only decides what is kept of it.
Learned learn_in_bits(const std::shared_ptr<const Backbone>& backbone, const std::string& bits) {
  return learn_recast(backbone, "block,block=16,bits=" + bits, 2);
}

TEST(Recast, StoresTheNearestMultiplesOfOneStep) {
  const auto backbone = toy();
  const Learned whole = learn_in_bits(backbone, "32");
  for (const auto& [bits, most] : std::map<std::string, std::int64_t>{{"16", 32767}, {"8", 127}}) {
    const Learned rounded = learn_in_bits(backbone, bits);
    const double step = coefficients(rounded).real("step");
    EXPECT_GT(step, 0);
    std::int64_t largest = 0;
    for (const std::string& name : covered_slots(*backbone)) {
      const at::Tensor start = backbone->anatomy().at(name).coefficients.unsqueeze(1).to(at::kDouble);
      const at::Tensor codes = coefficients(rounded).tensor("c" + bits + "@" + name);
      const at::Tensor kept = start + codes.to(at::kDouble) * step;
      const at::Tensor c = coefficients(whole).tensor("c@" + name).to(at::kDouble);
      EXPECT_LE((kept - c).abs().max().item<double>(), 0.501 * step) << bits << " " << name;
      EXPECT_FALSE(coefficients(rounded).has("c@" + name)) << "stored twice";
      largest = std::max(largest, codes.abs().max().item<std::int64_t>());
    }
    EXPECT_EQ(largest, most) << "the range is not used";
  }
}

TEST(Recast, StoredBytesAreThoseOfTheBits) {
  const auto backbone = toy();
  const std::int64_t numbers = count(coefficients(learn_in_bits(backbone, "32")));
  for (const auto& [bits, bytes] : std::map<std::string, std::int64_t>{{"32", 4}, {"16", 2}, {"8", 1}}) {
    const Learned learned = learn_in_bits(backbone, bits);
    const Plug& plug = learned.model.recipe().plug("recast");
    EXPECT_EQ(plug.method->stored_bytes(coefficients(learned)), numbers * bytes + (bits == "32" ? 0 : 8)) << bits;
    EXPECT_EQ(plug.method->learned_numbers(coefficients(learned)), numbers) << bits;
  }
}

TEST(Recast, FiguresAreThoseOfWhatIsStored) {
  const auto backbone = toy();
  for (const std::string bits : {"16", "8"}) {
    const Learned learned = learn_in_bits(backbone, bits);
    const Evaluation again = evaluate(learned.model, *toy_sources(20).validation, 3, false);
    EXPECT_EQ(learned.validation.loss, again.loss) << bits;
    EXPECT_NE(learned.validation.loss, learn_in_bits(backbone, "32").validation.loss) << "nothing was rounded";
  }
}

TEST(Recast, LearnsOnFromRoundedCoefficients) {
  const auto backbone = toy();
  for (const std::string bits : {"16", "8"}) {
    const Learned first = learn_in_bits(backbone, bits);
    const Recipe none = toy_recipe(0), more = toy_recipe(2);
    const Learned same = learn(first.model, toy_task(), toy_sources(20), none, {});
    EXPECT_TRUE(at::allclose(same.model.weights().tensor("blocks.0.mlp.fc1"),
                             first.model.weights().tensor("blocks.0.mlp.fc1"), 0, 1e-6));
    const Learned further = learn(first.model, toy_task(), toy_sources(20), more, {});
    EXPECT_FALSE(equal(coefficients(further), coefficients(first))) << "nothing moved";
    EXPECT_LT(further.validation.loss, first.validation.loss);
    EXPECT_FALSE(coefficients(further).has("c@blocks.0.mlp.fc1"));
  }
}

TEST(Recast, RoundedCoefficientsBecomeWholeAgainWhereARecipeAsksForIt) {
  const auto backbone = toy();
  const Learned first = learn_in_bits(backbone, "8");
  const Recipe recipe = toy_recipe(0);
  Model whole = toy_model(backbone, recipe, {"recast:grain=block,block=16"});
  whole.numbers() = first.model.numbers();
  const Learned next = learn(whole, toy_task(), toy_sources(20), recipe, {});
  EXPECT_TRUE(coefficients(next).has("c@blocks.0.mlp.fc1"));
  EXPECT_FALSE(coefficients(next).has("c8@blocks.0.mlp.fc1"));
  EXPECT_TRUE(
      at::equal(next.model.weights().tensor("blocks.0.mlp.fc1"), first.model.weights().tensor("blocks.0.mlp.fc1")));
}

TEST(Recast, NothingMovedIsStoredAsZeros) {
  const auto backbone = toy();
  const Learned learned = learn_recast(backbone, "block,bits=8", 0);
  EXPECT_EQ(coefficients(learned).real("step"), 0);
  for (const std::string& name : covered_slots(*backbone))
    EXPECT_TRUE(at::equal(learned.model.weights().tensor(name), backbone->weight(backbone->anatomy().at(name))));
}

TEST(Recast, RefusesOtherBits) {
  for (const char* bits : {"4", "0", "64", "-8", "8.0", "int8"})
    error_of(Code::kInvalidArgument, [&] { learn_in_bits(toy(), bits); });
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
  if (full_effects()) {
    EXPECT_GT(gain, 0.01);
  }
}

}  // namespace
}  // namespace recast
