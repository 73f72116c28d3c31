#include "recast/run/adaptation.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "format/expect_error.h"
#include "recast/method/slot_weight.h"
#include "recast/mimic/mimicry.h"
#include "recast/run/model_directory.h"
#include "run/toy_model.h"

namespace recast {
namespace {

ModelFiles mimicked(std::uint64_t seed = 1) {
  MimicryOptions options;
  options.groups = 2;
  return mimic(toy_vit(seed, toy_vit_config(4)), options).files;
}

NamedTensors start_of(const Adaptation& adaptation) {
  NamedTensors numbers;
  for (const Adaptation::MadeSlot& slot : adaptation.slots())
    for (const auto& [name, number] : slot.numbers) numbers[name] = number.clone();
  return numbers;
}

LinearHead toy_head(std::int64_t classes) {
  return {Key(3).fold("weight").normal({classes, 32}), Key(3).fold("bias").normal({classes})};
}

template <class Call>
void expect_refusal(const Call& call, Code code, const std::string& text) {
  EXPECT_THAT(error_of(code, call), ::testing::HasSubstr(text));
}

TEST(Adaptation, StartsWithTheBackbonesOwnWeights) {
  const ModelFiles files = mimicked();
  const auto backbone = make_backbone(files);
  const Adaptation adaptation(files, {}, 42);
  ASSERT_EQ(adaptation.slots().size(), 4u);
  for (const Adaptation::MadeSlot& slot : adaptation.slots()) {
    EXPECT_FALSE(slot.vector);
    EXPECT_TRUE(
        at::equal(adaptation.weight(slot.name, slot.numbers), backbone->weight(backbone->anatomy().at(slot.name))));
  }
}

TEST(Adaptation, HandsGradientsToTheNumbersOfASlot) {
  const Adaptation adaptation(mimicked(), {"recast:grain=head"}, 42);
  const Adaptation::MadeSlot& slot = adaptation.slots()[1];
  NamedTensors numbers;
  for (const auto& [name, number] : slot.numbers) numbers[name] = number.clone().set_requires_grad(true);
  adaptation.weight(slot.name, numbers).square().sum().backward();
  for (const auto& [name, number] : numbers) EXPECT_GT(number.grad().abs().sum().item<double>(), 0) << name;
}

TEST(Adaptation, GivesOneSlotsWeightAsTheModelGivesAll) {
  const auto backbone = make_backbone(mimicked());
  const auto recipe = compose({parse_plug("norm-tuning")}, backbone->anatomy());
  Numbers numbers;
  for (const std::string& slot : recipe->plug("norm-tuning").method->slots(backbone->anatomy()))
    numbers.at("norm-tuning", Scope::kTask)
        .set(number_name(slot.ends_with("weight") ? "gain" : "bias", slot), Key(1).fold(slot).normal({32}));
  const Model model(backbone, recipe, numbers);
  for (const auto& [slot, weight] : model.weights())
    EXPECT_TRUE(at::equal(slot_weight(model, slot), std::get<at::Tensor>(weight))) << slot;
}

TEST(Adaptation, StoresATaskThatGivesBackItsNumbersAndHead) {
  const Adaptation adaptation(mimicked(), {"recast", "lora:rank=2,targets=fc1"}, 42);
  NamedTensors numbers = start_of(adaptation);
  for (auto& [name, number] : numbers) number += 0.1 * Key(5).fold(name).normal(number.sizes());
  const LinearHead head = toy_head(3);
  const TaskRecord record = adaptation.record("pets", {"a", "b", "c"}, numbers, head);
  EXPECT_EQ(decode_task(encode_task(record), "memory").plugs, record.plugs);
  const Adaptation::Stored stored = adaptation.stored(record);
  ASSERT_EQ(stored.numbers.size(), numbers.size());
  for (const auto& [name, number] : numbers) EXPECT_TRUE(at::equal(stored.numbers.at(name), number)) << name;
  EXPECT_TRUE(at::equal(stored.head.weight, head.weight));
  EXPECT_TRUE(at::allclose(stored.head.bias, head.bias));
}

TEST(Adaptation, RoundsWhatItStoresAsLearningDoes) {
  const Adaptation adaptation(mimicked(), {"recast:bits=8"}, 42);
  NamedTensors numbers = start_of(adaptation);
  for (auto& [name, number] : numbers) number += 0.1 * Key(5).fold(name).normal(number.sizes());
  const TaskRecord record = adaptation.record("pets", {"a", "b"}, numbers, toy_head(2));
  EXPECT_TRUE(record.numbers.at("recast", Scope::kTask).has("step"));
  const Adaptation::Stored stored = adaptation.stored(record);
  for (const auto& [name, number] : numbers) {
    EXPECT_FALSE(at::equal(stored.numbers.at(name), number)) << name;
    EXPECT_TRUE(at::allclose(stored.numbers.at(name), number, 0, 0.01)) << name;
  }
}

TEST(Adaptation, RefusesWhatMakesNoWeights) {
  expect_refusal([] { Adaptation(mimicked(), {"adaptformer"}, 1); }, Code::kUnsupported, "'adaptformer' acts beside");
  expect_refusal([] { Adaptation(mimicked(), {"piggyback"}, 1); }, Code::kUnsupported, "'piggyback' keeps 'score@");
  const Adaptation adaptation(mimicked(), {}, 1);
  expect_refusal([&] { adaptation.weight("blocks.9.attn.qkv", {}); }, Code::kNotFound, "no plug-in makes the weight");
  expect_refusal([&] { adaptation.weight("blocks.0.attn.qkv", {}); }, Code::kNotFound,
                 "needs 'recast.c@blocks.0.attn.qkv'");
  expect_refusal(
      [&] {
        adaptation.record("x", {"a", "b"}, start_of(adaptation), toy_head(3));
      },
      Code::kShapeMismatch, "a head of 2 labels over 32 features");
  const TaskRecord other = Adaptation(mimicked(9), {}, 1).record("x", {"a", "b"}, start_of(adaptation), toy_head(2));
  expect_refusal([&] { adaptation.stored(other); }, Code::kShapeMismatch, "'x' belongs to backbone");
}

}  // namespace
}  // namespace recast
