// LoRA: counts, where it acts, numbers that carry their own rank and alpha, a second implementation, real images.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "format/expect_error.h"
#include "methods/adapter_case.h"
#include "methods/adapter_effect.h"

namespace recast {
namespace {

Learned learn_lora(const std::shared_ptr<const Backbone>& backbone, const std::vector<std::string>& plugs,
                   std::int64_t epochs) {
  const Recipe recipe = toy_recipe(epochs);
  return learn(toy_model(backbone, recipe, plugs), toy_task(), toy_sources(20), recipe, {});
}

const State& numbers_of(const Learned& learned) { return learned.model.numbers().at("lora", Scope::kTask); }

/// Names of the numbers without their family: "blocks.0.attn.qkv#q".
std::set<std::string> places(const State& state) {
  std::set<std::string> places;
  for (const auto& [name, number] : state) places.insert(name.substr(name.find('@') + 1));
  return places;
}

TEST(Lora, CountsItsNumbers) {
  const auto small = zeros_of("vit_small_patch16_224");
  EXPECT_EQ(count(untrained(small, {"lora"}).numbers().at("lora", Scope::kTask)), 73728);
  const auto toy = toy_backbone();  // two blocks of width 32, MLP 64
  EXPECT_EQ(numbers_of(learn_lora(toy, {"lora:rank=2"}, 0)).bytes(), 4 * 2 * 2 * (32 + 96));
  EXPECT_EQ(numbers_of(learn_lora(toy, {"lora:rank=2,targets=q+v"}, 0)).bytes(), 4 * 2 * 2 * 2 * (32 + 32));
  EXPECT_EQ(numbers_of(learn_lora(toy, {"lora:rank=3,targets=all"}, 0)).bytes(),
            4 * 3 * 2 * ((32 + 96) + (32 + 32) + (32 + 64) + (64 + 32)));
}

TEST(Lora, ActsWhereItsTargetsAre) {
  const auto toy = toy_backbone();
  const auto chosen = [&](const std::string& targets) {
    return places(numbers_of(learn_lora(toy, {"lora:targets=" + targets}, 0)));
  };
  EXPECT_EQ(chosen("auto"), chosen("qkv"));
  EXPECT_EQ(chosen("qkv"), (std::set<std::string>{"blocks.0.attn.qkv", "blocks.1.attn.qkv"}));
  EXPECT_EQ(chosen("v"), (std::set<std::string>{"blocks.0.attn.qkv#v", "blocks.1.attn.qkv#v"}));
  EXPECT_EQ(chosen("fc2+patch_embed"), (std::set<std::string>{"blocks.0.mlp.fc2", "blocks.1.mlp.fc2", "patch_embed"}));
  EXPECT_EQ(chosen("all"), chosen("qkv+proj+fc1+fc2"));
}

TEST(Lora, ActsOnEveryConvolutionOfACnn) {
  const auto cnn = toy_cnn_backbone();
  std::set<std::string> kernels;
  for (const Slot& slot : cnn->anatomy().slots)
    if (slot.kind == SlotKind::kWeight && slot.shape.size() == 4) kernels.insert(slot.name);
  const Model model = untrained(cnn, {"lora:rank=3"});
  const State& numbers = model.numbers().at("lora", Scope::kTask);
  EXPECT_EQ(places(numbers), kernels);
  for (const std::string& name : kernels) {
    const std::vector<std::int64_t>& shape = cnn->anatomy().at(name).shape;
    EXPECT_EQ(numbers.tensor("a@" + name).sizes(), (at::IntArrayRef{3, shape[1], shape[2], shape[3]}));
    EXPECT_EQ(numbers.tensor("b@" + name).sizes(), (at::IntArrayRef{shape[0], 3, 1, 1}));
  }
}

TEST(Lora, RefusesATargetThatTheBackboneLacks) {
  const auto toy = toy_backbone();
  const std::string near = error_of(Code::kUnsupported, [&] { learn_lora(toy, {"lora:targets=q+fc3"}, 0); });
  EXPECT_NE(near.find("no target 'fc3', did you mean 'fc1'?"), near.npos) << near;
  EXPECT_NE(near.find("qkv"), near.npos) << near;
  error_of(Code::kUnsupported, [&] { learn_lora(toy, {"lora:targets="}, 0); });
  error_of(Code::kUnsupported, [&] { learn_lora(toy, {"lora:targets=conv"}, 0); });
}

TEST(Lora, StartsAsTheBackboneEverywhere) {
  const auto toy = toy_backbone();
  for (const char* targets : {"q+v", "all", "qkv+q", "patch_embed+k"}) {
    const Learned learned = learn_lora(toy, {std::string("lora:targets=") + targets}, 0);
    for (const auto& [slot, weight] : learned.model.weights())
      EXPECT_TRUE(at::equal(std::get<at::Tensor>(weight), toy->weight(toy->anatomy().at(slot)))) << targets << slot;
    for (const auto& [name, number] : numbers_of(learned)) {
      const at::Tensor tensor = std::get<at::Tensor>(number);
      const double bound = 1 / std::sqrt(static_cast<double>(tensor[0].numel()));
      if (name.starts_with("b@")) {
        EXPECT_EQ(tensor.count_nonzero().item<std::int64_t>(), 0) << name;
      }
      if (!name.starts_with("a@")) continue;
      EXPECT_LE(tensor.abs().max().item<double>(), bound) << name;
      EXPECT_GT(tensor.abs().max().item<double>(), 0.8 * bound) << name;
    }
  }
}

TEST(Lora, LeavesThePartThatItDoesNotName) {
  const auto toy = toy_backbone();
  const at::Tensor adapted = learn_lora(toy, {"lora:targets=q+v"}, 2).model.weights().tensor("blocks.0.attn.qkv");
  const at::Tensor own = toy->weight(toy->anatomy().at("blocks.0.attn.qkv"));
  EXPECT_TRUE(at::equal(adapted.slice(0, 32, 64), own.slice(0, 32, 64)));
  EXPECT_FALSE(at::equal(adapted.slice(0, 0, 32), own.slice(0, 0, 32)));
  EXPECT_FALSE(at::equal(adapted.slice(0, 64, 96), own.slice(0, 64, 96)));
}

TEST(Lora, ReadsRankAndAlphaFromTheNumbers) {
  const auto toy = toy_backbone();
  for (const bool stabilised : {false, true}) {
    Model model = learn_lora(toy, {stabilised ? "lora:alpha=6,rslora=true" : "lora:alpha=6"}, 0).model;
    const std::string slot = "blocks.1.attn.qkv";
    const at::Tensor own = toy->weight(toy->anatomy().at(slot));
    State& state = model.numbers().at("lora", Scope::kTask);
    const at::Tensor a = Key(1).normal({9, 32}), b = Key(2).normal({96, 9});
    state.set("a@" + slot, a);
    state.set("b@" + slot, b);
    const auto expect_scale = [&](double scale) {
      const at::Tensor expected = own + scale * at::matmul(b, a);
      EXPECT_LE(relative_difference(model.weights().tensor(slot), expected), 1e-6) << scale;
    };
    expect_scale(stabilised ? 6.0 / 3 : 6.0 / 9);
    state.set("alpha@" + slot, 4.5);
    expect_scale(stabilised ? 4.5 / 3 : 4.5 / 9);
    state.set("a@" + slot + "#k", Key(3).normal({2, 32}));  // a part beside the whole
    state.set("b@" + slot + "#k", at::zeros({32, 2}));
    expect_scale(stabilised ? 4.5 / 3 : 4.5 / 9);
    state.erase("a@" + slot);  // a slot without numbers, as adapters that leave out a block have it
    state.erase("a@" + slot + "#k");
    EXPECT_TRUE(at::equal(model.weights().tensor(slot), own));
    EXPECT_NO_THROW(model.features(toy_batch(*toy_sources().validation, {0}), {}));
  }
}

/// For calls of a plug-in outside of a forward pass; LoRA asks nothing of it.
class NoPass final : public Pass {
 public:
  const Batch& batch() const override { return batch_; }
  Mode mode() const override { return Mode::kTrain; }
  Key key() const override { return Key(0); }
  std::int64_t step() const override { return 0; }
  bool learns() const override { return false; }
  at::Tensor weight(std::string_view) override { return {}; }
  at::Tensor param(std::string_view, std::string_view, const at::Tensor& own) override { return own; }
  void emit(std::string_view, at::Tensor) override {}
  void add_loss(std::string_view, at::Tensor) override {}
  at::Tensor once(std::string_view, const std::function<at::Tensor()>& compute) override { return compute(); }

 private:
  Batch batch_;
};

struct Answer {
  at::Tensor y, x_gradient;
  std::map<std::string, at::Tensor> a_gradients, b_gradients;
};

/// A slot's product through weight() or product(), and its gradients for dL/dy = g.
Answer product_of(const Slot& slot, const OptionTexts& options, const State& numbers, const at::Tensor& w,
                  const at::Tensor& input, const at::Tensor& g, bool through_weight) {
  const MethodInfo& info = Registry::instance().find("lora");
  const auto method = info.make(options);
  Numbers all;
  State& own = all.at("lora", Scope::kTask) = numbers.clone();
  for (const auto& [name, number] : own)
    if (const auto* tensor = std::get_if<at::Tensor>(&number)) tensor->set_requires_grad(true);
  const at::Tensor x = input.clone().set_requires_grad(true);
  const View view(all, "lora", info.families, slot.name, nullptr);
  NoPass pass;
  const auto apply = [&](const at::Tensor& in, const at::Tensor& weight) {
    return slot.shape.size() == 4 ? at::conv2d(in, weight, {}, slot.shape[2]) : at::linear(in, weight);
  };
  Answer answer;
  answer.y = through_weight ? apply(x, method->roles().weight->weight(slot, w, view, pass))
                            : *method->roles().weight->product(
                                  slot, x, [&](const at::Tensor& in) { return apply(in, w); }, view, pass);
  (answer.y * g).sum().backward();
  answer.x_gradient = x.grad();
  for (const auto& [name, number] : own) {
    const auto* tensor = std::get_if<at::Tensor>(&number);
    const std::size_t mark = name.find('#');
    const std::string part = mark == name.npos ? "whole" : name.substr(mark + 1);
    if (tensor) (name.starts_with("a@") ? answer.a_gradients : answer.b_gradients)[part] = tensor->grad();
  }
  return answer;
}

TEST(Lora, AgreesWithAnIndependentImplementation) {
  RECAST_NEED_PYTHON("torch,safetensors");
  struct Case {
    std::string name;
    std::string slot;
    std::vector<std::string> parts;  // "" is the whole slot
    bool stabilised;
    double own_alpha;  // 0: the option's
  };
  const auto toy = toy_backbone();
  TensorFile question;
  std::map<std::string, Answer> ours;
  for (const Case& c :
       {Case{"fused", "blocks.0.attn.qkv", {""}, false, 0}, Case{"q_v", "blocks.0.attn.qkv", {"q", "v"}, false, 0},
        Case{"rslora", "blocks.1.attn.qkv", {"", "k"}, true, 3}, Case{"fc2", "blocks.1.mlp.fc2", {""}, true, 0},
        Case{"patches", "patch_embed", {""}, false, 2.5}}) {
    const Slot& slot = toy->anatomy().at(c.slot);
    const bool kernel = slot.shape.size() == 4;
    const at::Tensor w = Key(1).fold(c.name).normal(slot.shape);
    const at::Tensor x = kernel ? Key(2).normal({2, 3, 16, 16}) : Key(2).fold(c.name).normal({2, 5, slot.shape[1]});
    const at::Tensor g = kernel ? Key(3).normal({2, slot.shape[0], 4, 4}) : Key(3).normal({2, 5, slot.shape[0]});
    State numbers;
    nlohmann::json places = nlohmann::json::object();
    std::int64_t rank = 3;
    for (const std::string& name : c.parts) {
      Part part{"", 0, slot.shape[0]};
      for (const Part& p : slot.parts)
        if (p.name == name) part = p;
      std::vector<std::int64_t> a = slot.shape, b(slot.shape.size(), 1);
      a[0] = b[1] = rank;
      b[0] = part.end - part.begin;
      const std::string id = c.name + "." + (name.empty() ? "whole" : name);
      numbers.set(number_name("a", slot.name, name), question.tensors[id + ".a"] = Key(4).fold(id).normal(a));
      numbers.set(number_name("b", slot.name, name), question.tensors[id + ".b"] = Key(5).fold(id).normal(b));
      if (c.own_alpha > 0) numbers.set(number_name("alpha", slot.name, name), c.own_alpha);
      const double alpha = c.own_alpha > 0 ? c.own_alpha : 7, r = static_cast<double>(rank);
      places[name.empty() ? "whole" : name] = {
          {"begin", part.begin}, {"end", part.end}, {"scale", alpha / (c.stabilised ? std::sqrt(r) : r)}};
      ++rank;
    }
    question.tensors[c.name + ".w"] = w;
    question.tensors[c.name + ".x"] = x;
    question.tensors[c.name + ".g"] = g;
    question.metadata[c.name] = nlohmann::json({{"stride", kernel ? slot.shape[2] : 0}, {"parts", places}}).dump();
    const OptionTexts options = {{"alpha", "7"}, {"rslora", c.stabilised ? "true" : "false"}};
    ours[c.name + "/weight"] = product_of(slot, options, numbers, w, x, g, true);
    if (!kernel) ours[c.name + "/product"] = product_of(slot, options, numbers, w, x, g, false);
  }
  const NamedTensors theirs = python_reference("lora_reference.py", question);
  for (const auto& [name, answer] : ours) {
    const std::string id = name.substr(0, name.find('/'));
    EXPECT_LE(relative_difference(answer.y, theirs.at(id + ".y")), 1e-5) << name;
    EXPECT_LE(relative_difference(answer.x_gradient, theirs.at(id + ".x_gradient")), 1e-5) << name;
    for (const auto& [part, gradient] : answer.a_gradients)
      EXPECT_LE(relative_difference(gradient, theirs.at(id + "." + part + ".a_gradient")), 1e-5) << name << part;
    for (const auto& [part, gradient] : answer.b_gradients)
      EXPECT_LE(relative_difference(gradient, theirs.at(id + "." + part + ".b_gradient")), 1e-5) << name << part;
  }
}

// Over recast's coefficients: melo_test.cc.
TEST(LoraEffect, LearnsARealTask) {
  RECAST_NEED_REAL_TASK();
  const TemporaryFolder folder;
  make_zoo_model(folder.path(), {});
  expect_learns_a_real_task(folder.path(), {"lora"}, {{"lora", 4 * 73728}});
}

}  // namespace
}  // namespace recast
