#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "format/temporary_folder.h"
#include "recast/format/tensor_file.h"
#include "run/toy_model.h"
#include "text/run_recast.h"

namespace recast {
namespace {
using ::testing::HasSubstr;

TEST(InspectCommand, ShowsNanInAModelThatNoOtherCommandOpensOnlyWhenAsked) {
  TemporaryFolder folder, output;
  write_toy_model(folder / "model");
  const std::filesystem::path weights = folder / "model/backbone.safetensors";
  const std::string model = (folder / "model").string();
  TensorFile file = read_tensor_file(weights);
  file.tensors.at("norm.bias")[3] = NAN;
  write_tensor_file(weights, file);
  const auto recast = [&](std::vector<std::string> words) {
    return RunningRecast(output.path(), std::move(words)).wait();
  };
  for (const std::string& path : {model, weights.string()}) {
    const Answer refused = recast({"inspect", path});
    EXPECT_EQ(refused.status, 5) << refused.err;
    EXPECT_THAT(refused.err, HasSubstr("'norm.bias' holds 1 NaN"));
    EXPECT_EQ(recast({"inspect", path, "--allow-nonfinite"}).status, 0);
  }
  const nlohmann::json report = recast({"inspect", weights.string(), "--allow-nonfinite", "--json"}).json();
  int bad = 0;
  for (const auto& tensor : report["tensors"]) bad += tensor["nan"].get<int>() + tensor["infinite"].get<int>();
  EXPECT_EQ(bad, 1);
}

}  // namespace
}  // namespace recast
