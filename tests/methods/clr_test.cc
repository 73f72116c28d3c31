// CLR: the numbers that the papers' networks need, which convolutions have kernels, a Dirac kernel's bits, a second
// implementation.
#include <gtest/gtest.h>

#include "format/expect_error.h"
#include "methods/adapter_case.h"
#include "methods/adapter_effect.h"

namespace recast {
namespace {

std::int64_t numbers_on(const std::string& architecture_name, const std::string& options) {
  const Model model = untrained(zeros_of(architecture_name), {"clr:" + options}, /*side_px=*/32);
  return count(model.numbers().at("clr", Scope::kTask));
}

TEST(Clr, CountsTheNumbersOfThePapersNetworks) {
  // ResNet-50: 26,560 channels behind convolutions, of which 3,840 not behind 1 x 1.
  EXPECT_EQ(numbers_on("resnet50", "where=all"), 9 * 26560);
  EXPECT_EQ(numbers_on("resnet50", "where=spatial"), 9 * 3840);
  EXPECT_EQ(numbers_on("resnet50", "where=sized"), 9 * 3840 + (26560 - 3840));
  // ResNet-34: 8,512, of which 896 behind the 1 x 1 of shortcuts.
  EXPECT_EQ(numbers_on("resnet34", "where=all"), 76608);
  EXPECT_EQ(numbers_on("resnet34", "where=spatial"), 9 * (8512 - 896));
  EXPECT_EQ(numbers_on("resnet34", "where=all,kernel=5"), 25 * 8512);
}

TEST(Clr, ADiracKernelKeepsEveryBit) {
  const at::Tensor x = Key(2).normal({3, 8, 7, 5}) * 1e3;
  at::Tensor kernel = at::zeros({8, 1, 3, 3});
  kernel.select(3, 1).select(2, 1).fill_(1);
  EXPECT_TRUE(at::equal(at::conv2d(x, kernel, {}, 1, 1, 1, 8), x));
}

TEST(Clr, RefusesAKernelWithoutAMiddle) {
  const std::string text = error_of(Code::kInvalidArgument, [] {
    Registry::instance().find("clr").make({{"kernel", "4"}});
  });
  EXPECT_NE(text.find("[clr] kernel must be odd"), text.npos) << text;
}

TEST(Clr, IsRefusedWhereThereIsNoBatchNorm) {
  const Anatomy anatomy = toy_backbone()->anatomy();
  const std::string text = error_of(Code::kUnsupported, [&] { compose({parse_plug("clr")}, anatomy); });
  EXPECT_NE(text.find("[clr]"), text.npos) << text;
}

TEST(Clr, AgreesWithAnIndependentImplementation) {
  RECAST_NEED_PYTHON("torch,safetensors");
  AdapterComparison comparison;
  for (const std::string block : {"basic", "bottleneck", "inverted"})
    for (const std::string where : {"all", "sized"}) {
      const CnnConfig cnn = toy_cnn_config(block);
      const ModelFiles files = toy_cnn(1, cnn);
      Model model = untrained(make_backbone(files), {"clr:where=" + where});
      shake(model, "clr", 0.2);
      comparison.add(block + "." + where, {cnn_question(cnn), {{"name", "clr"}, {"trains", {"k"}}}, {"clr"}}, model,
                     files.backbone);
    }
  comparison.expect_agreement();
}

TEST(ClrEffect, LearnsARealTaskAloneAndBesideRecast) {
  RECAST_NEED_REAL_TASK_ON(kZooLite0);
  expect_learns_on_cnn("clr", 4 * 9 * kLite0Channels);
}

}  // namespace
}  // namespace recast
