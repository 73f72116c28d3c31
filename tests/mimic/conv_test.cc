// Target conv: convolutions of repeated blocks.
#include <gtest/gtest.h>

#include "format/expect_error.h"
#include "model/golden_case.h"
#include "model/toy_cnn.h"
#include "recast/mimic/mimicry.h"

namespace recast {
namespace {

/// An architecture with random weights.
ModelFiles random_cnn(const std::string& arch) {
  ModelFiles files{architecture(arch), {}, {}};
  files.backbone = toy_tensors(files.config.cnn(), 5);
  return files;
}

std::vector<std::int64_t> templates_of(const BankConfig& bank) {
  std::vector<std::int64_t> counts;
  for (const BankConfig::Group& group : bank.members) counts.push_back(bank.templates_of(group));
  return counts;
}

TEST(ConvMimicry, Resnet34HasThePapers168Coefficients) {
  const Mimicry got = mimic(random_cnn("resnet34"), {});
  EXPECT_EQ(got.coefficients, 168);
  const BankConfig& bank = got.files.config.bank;
  EXPECT_EQ(bank.target, "conv");
  EXPECT_EQ(templates_of(bank), (std::vector<std::int64_t>{2, 2, 3, 3, 5, 5, 2, 2}));
  EXPECT_EQ(bank.members[0].name, "layer1.conv1.0");
  EXPECT_EQ(bank.members[0].slots, (std::vector<std::string>{"layer1.1.conv1", "layer1.2.conv1"}));
  EXPECT_EQ(bank.members[7].slots, (std::vector<std::string>{"layer4.1.conv2", "layer4.2.conv2"}));
  for (const SlotFidelity& slot : got.fidelity) EXPECT_EQ(slot.relative_error, 0) << slot.slot;
}

TEST(ConvMimicry, Resnet50HasABankAStageForEachOfThreeConvolutions) {
  const Mimicry got = mimic(random_cnn("resnet50"), {});
  const BankConfig& bank = got.files.config.bank;
  EXPECT_EQ(templates_of(bank), (std::vector<std::int64_t>{2, 2, 2, 3, 3, 3, 5, 5, 5, 2, 2, 2}));
  EXPECT_EQ(bank.members[4].slots, (std::vector<std::string>{"layer2.1.conv2", "layer2.2.conv2", "layer2.3.conv2"}));
  EXPECT_EQ(got.coefficients, 3 * 2 * (4 + 9 + 25 + 4));
}

TEST(ConvMimicry, EfficientnetLiteHasABankAStageForEachConvolutionOfRepeatedBlocks) {
  const Mimicry got = mimic(random_cnn("efficientnet_lite0"), {});
  const BankConfig& bank = got.files.config.bank;
  ASSERT_EQ(bank.members.size(), 15U);  // stages of 2, 2, 3, 3 and 4 blocks; those of one block repeat nothing
  EXPECT_EQ(bank.members[0].name, "blocks.1.conv_pw.0");
  EXPECT_EQ(bank.members[13].slots,
            (std::vector<std::string>{"blocks.5.1.conv_dw", "blocks.5.2.conv_dw", "blocks.5.3.conv_dw"}));
  EXPECT_EQ(got.coefficients, 3 * 2 * (1 + 1 + 4 + 4 + 9));
}

TEST(ConvMimicry, IsExactToTheBitWhereThereAreEnoughTemplates) {
  for (const char* block : {"basic", "bottleneck", "inverted"}) {
    const ModelFiles source = toy_cnn(1, toy_cnn_config(block));
    const auto original = make_backbone(source);
    for (const MimicryOptions& options :
         {MimicryOptions{}, MimicryOptions{.groups = 2, .sets = 1}, MimicryOptions{.templates = 3, .sets = 3}}) {
      const auto mimicked = make_backbone(mimic(source, options).files);
      for (const Slot& slot : original->anatomy().slots) {
        if (slot.kind != SlotKind::kWeight) continue;
        EXPECT_TRUE(original->weight(slot).equal(mimicked->weight(slot))) << slot.name;
      }
      EXPECT_TRUE(plain_features(*mimicked, toy_images(3)).equal(plain_features(*original, toy_images(3))));
    }
  }
}

TEST(ConvMimicry, FewerTemplatesLoseSomethingAndSayHowMuch) {
  const Mimicry got = mimic(toy_cnn(), {.templates = 1});
  EXPECT_EQ(templates_of(got.files.config.bank), (std::vector<std::int64_t>{1, 1, 1, 1}));
  EXPECT_EQ(got.coefficients, 8 * 2);
  for (const SlotFidelity& slot : got.fidelity) EXPECT_GT(slot.relative_error, 0.1) << slot.slot;
}

TEST(ConvMimicry, LeavesFirstBlocksProjectionsAndStemAsTheyWere) {
  const ModelFiles source = toy_cnn(), files = mimic(source, {}).files;
  for (const auto& [name, tensor] : source.backbone) {
    const bool covered = name.find(".conv") != std::string::npos && name.find(".0.") == std::string::npos;
    EXPECT_EQ(files.backbone.contains(name), !covered) << name;
    EXPECT_TRUE(covered || files.backbone.at(name).equal(tensor)) << name;
  }
}

TEST(ConvMimicry, RefusesOtherTargetsAndMoreGroupsThanASharedShapeHasLayers) {
  const auto text = [](const MimicryOptions& options) {
    return error_of(Code::kInvalidArgument, [&] { mimic(toy_cnn(), options); });
  };
  EXPECT_NE(text({.target = "attn"}).find("is a convolutional network and has no slots of target attn: take conv"),
            std::string::npos);
  EXPECT_NE(text({.groups = 3}).find("groups of layer1.conv1 must lie in 1..2, got 3"), std::string::npos);
  CnnConfig single = toy_cnn_config();
  for (CnnStage& stage : single.stages) stage.blocks = 1;
  EXPECT_NE(error_of(Code::kInvalidArgument, [&] { mimic(toy_cnn(1, single), {}); }).find("repeats a block"),
            std::string::npos);
}

}  // namespace
}  // namespace recast
