// Linear probe: columns of their own, growth, taking over a fitted classifier, storing it in few bits.
#include <gtest/gtest.h>

#include "conformance/toy_source.h"
#include "format/expect_error.h"
#include "recast/method/numbers_file.h"

namespace recast {
namespace {

Learned learn_probe(const Recipe& recipe, std::int64_t classes, const Numbers& start = {}) {
  Model model = toy_model(toy_backbone(), recipe, {"linear-probe"});
  model.numbers() = start;
  return learn(model, toy_task("probe", classes), toy_sources(20, classes), recipe, {});
}
at::Tensor weight(const Learned& learned) {
  return learned.model.numbers().at("linear-probe", Scope::kTask).tensor("weight");
}

TEST(LinearProbe, StartsAsTorchsLinearLayersDo) {
  const at::Tensor w = weight(learn_probe(toy_recipe(0), 40));
  const double bound = 1 / std::sqrt(32.0);
  EXPECT_EQ(w.sizes(), (at::IntArrayRef{40, 32}));
  EXPECT_LE(w.abs().max().item<double>(), bound);
  EXPECT_GT(w.abs().max().item<double>(), 0.99 * bound);
  EXPECT_NEAR(w.mean().item<double>(), 0, 5 * bound / std::sqrt(3.0 * 1280));
}

TEST(LinearProbe, AColumnDoesNotDependOnHowManyThereAre) {
  EXPECT_TRUE(at::equal(weight(learn_probe(toy_recipe(0), 3)), weight(learn_probe(toy_recipe(0), 5)).narrow(0, 0, 3)));
}

TEST(LinearProbe, GrowsWithoutTouchingLearnedColumns) {
  const Learned first = learn_probe(toy_recipe(2), 3);
  const Learned grown = learn_probe(toy_recipe(0), 5, first.model.numbers());
  EXPECT_TRUE(at::equal(weight(grown).narrow(0, 0, 3), weight(first)));
  EXPECT_TRUE(at::equal(weight(grown).narrow(0, 3, 2), weight(learn_probe(toy_recipe(0), 5)).narrow(0, 3, 2)));
}

TEST(LinearProbe, TakesOverAFittedClassifierAndLearnsTheToyTask) {
  Recipe fitted = toy_recipe(2);
  fitted.fit_head = true;
  const Learned learned = learn_probe(fitted, 3);
  EXPECT_EQ(learned.kept, "head") << "with nothing else to train the epochs are not run";
  EXPECT_EQ(learned.validation.top1, 1);
}

// ---- stored in fewer bits ------------------------------------------------------------------------------------------

Learned learn_in_bits(const std::string& bits, std::int64_t width = 32, std::int64_t classes = 3) {
  VitConfig vit = toy_vit_config();
  vit.width = width;
  vit.heads = 1;
  const auto backbone = make_backbone(toy_vit(1, vit));
  Recipe recipe = toy_recipe(2);
  recipe.fit_head = true;
  const Model start = toy_model(backbone, recipe, {"linear-probe:bits=" + bits});
  return learn(start, toy_task("probe", classes), toy_sources(20, classes), recipe, {});
}
at::Tensor rows(const Learned& learned) {
  return *learned.model.recipe().head().roles.head->class_rows(
      learned.model.numbers().at("linear-probe", Scope::kTask));
}
const State& numbers(const Learned& learned) { return learned.model.numbers().at("linear-probe", Scope::kTask); }

TEST(LinearProbe, RoundsEachRowAtLeastAsWellAsToTheNearestOfEvenSteps) {
  const at::Tensor whole = rows(learn_in_bits("32"));
  for (const auto& [bits, most] : std::map<std::string, double>{{"8", 127}, {"4", 7}}) {
    const at::Tensor error = (rows(learn_in_bits(bits)) - whole).square().sum(1);
    const at::Tensor half_step = whole.abs().amax(1) / most / 2;
    const at::Tensor bound = 32 * half_step.square() * 1.001;
    EXPECT_TRUE(error.le(bound).all().item<bool>()) << bits;
    EXPECT_TRUE(error.gt(0).all().item<bool>()) << "nothing was rounded";
  }
}

TEST(LinearProbe, StoredBytesAreThoseOfTheBits) {
  for (const std::int64_t width : {32, 33}) {
    const std::map<std::string, std::int64_t> bytes = {
        {"32", 3 * (4 * width + 4)}, {"8", 3 * (width + 8)}, {"4", 3 * ((width + 1) / 2 + 8)}};
    for (const auto& [bits, expected] : bytes) {
      const Learned learned = learn_in_bits(bits, width);
      const Plug& head = learned.model.recipe().head();
      EXPECT_EQ(head.method->stored_bytes(numbers(learned)), expected) << bits << " bits, width " << width;
      EXPECT_EQ(head.method->learned_numbers(numbers(learned)), 3 * (width + 1)) << bits << " bits, width " << width;
      EXPECT_EQ(rows(learned).sizes(), (at::IntArrayRef{3, width}));
      TensorFile file;
      pack_numbers(learned.model.numbers(), Scope::kTask, "", file);
      std::int64_t in_file = 0;
      for (const auto& [name, tensor] : file.tensors) in_file += static_cast<std::int64_t>(tensor.nbytes());
      EXPECT_EQ(in_file, expected);
    }
  }
}

TEST(LinearProbe, FiguresAreThoseOfWhatIsStored) {
  const double whole = learn_in_bits("32").validation.loss;
  for (const char* bits : {"8", "4"}) {
    const Learned learned = learn_in_bits(bits);
    EXPECT_EQ(learned.validation.loss, evaluate(learned.model, *toy_sources(20).validation, 3, false).loss) << bits;
    EXPECT_NE(learned.validation.loss, whole) << "nothing was rounded";
  }
}

TEST(LinearProbe, RoundedRowsComeBackBitEqualFromAFile) {
  for (const std::int64_t width : {32, 33})
    for (const char* bits : {"8", "4"}) {
      const Learned learned = learn_in_bits(bits, width);
      TensorFile file;
      pack_numbers(learned.model.numbers(), Scope::kTask, "", file);
      const TensorFile read = decode_tensor_file(encode_tensor_file(file), "test");
      Model loaded = learned.model;
      loaded.numbers() = {};
      unpack_numbers(read, Scope::kTask, "", loaded.numbers());
      const Batch batch = toy_batch(*toy_sources(20).validation, {0, 1, 2});
      EXPECT_TRUE(at::equal(loaded.forward(batch, {}).at("logits"), learned.model.forward(batch, {}).at("logits")));
    }
}

TEST(LinearProbe, RowsThatDidNotMoveKeepTheirCodes) {
  for (const char* bits : {"8", "4"}) {
    const Learned first = learn_in_bits(bits);
    const Recipe recipe = toy_recipe(0);
    const Learned grown = learn(first.model, toy_task("probe", 5), toy_sources(20, 5), recipe, {});
    const std::string codes = std::string("weight") + bits;
    EXPECT_TRUE(at::equal(numbers(grown).tensor(codes).narrow(0, 0, 3), numbers(first).tensor(codes)));
    EXPECT_TRUE(at::equal(numbers(grown).tensor("scale").narrow(0, 0, 3), numbers(first).tensor("scale")));
    EXPECT_EQ(numbers(grown).tensor(codes).size(0), 5);
  }
}

TEST(LinearProbe, ARowOfZerosStaysZero) {
  const Learned learned = learn_in_bits("32");
  Model model = learned.model;
  State& own = model.numbers().at("linear-probe", Scope::kTask);
  at::Tensor weight = own.tensor("weight").clone();
  weight[1].zero_();
  own.set("weight", weight);
  const Recipe recipe = toy_recipe(0);
  for (const char* bits : {"8", "4"}) {
    Model start = toy_model(model.shared_backbone(), recipe, {std::string("linear-probe:bits=") + bits});
    start.numbers() = model.numbers();
    const at::Tensor kept = rows(learn(start, toy_task("probe"), toy_sources(20), recipe, {}));
    EXPECT_TRUE(kept[1].eq(0).all().item<bool>());
    EXPECT_FALSE(kept[0].eq(0).all().item<bool>());
  }
}

TEST(LinearProbe, RefusesOtherBits) {
  for (const char* bits : {"16", "2", "0", "-4", "4.0"}) error_of(Code::kInvalidArgument, [&] { learn_in_bits(bits); });
}

}  // namespace
}  // namespace recast
