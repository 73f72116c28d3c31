#include "recast/run/inspect_file.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "format/expect_error.h"
#include "format/temporary_folder.h"
#include "recast/format/files.h"
#include "recast/format/tensor_file.h"

namespace recast {
namespace {

using testing::HasSubstr;

TensorFile with_bad_values() {
  return {{{"a", at::ones({2, 3}, at::kHalf)}, {"bad", at::tensor({NAN, 1.0f, -INFINITY, INFINITY})}}, {{"k", "v"}}};
}

TEST(InspectFile, ShowsNanAndInfinityOnlyWhenAsked) {
  TemporaryFolder folder;
  write_tensor_file(folder / "x.safetensors", with_bad_values());
  EXPECT_THAT(error_of(Code::kDataCorruption, [&] { inspect_file(folder / "x.safetensors", false); }),
              HasSubstr("'bad' holds 1 NaN and 2 infinite values of 4"));
  const nlohmann::json report = inspect_file(folder / "x.safetensors", true);
  EXPECT_EQ(report["bytes"], 28);
  EXPECT_EQ(report["metadata"]["k"], "v");
  EXPECT_EQ(report["tensors"][0],
            nlohmann::json::parse(R"({"name":"a","dtype":"Half","shape":[2,3],"bytes":12,"nan":0,"infinite":0})"));
  EXPECT_EQ(report["tensors"][1]["nan"], 1);
  EXPECT_EQ(report["tensors"][1]["infinite"], 2);
}

TEST(InspectFile, WalksTheFilesOfADirectory) {
  TemporaryFolder folder;
  EXPECT_THAT(error_of(Code::kNotFound, [&] { inspect_files(folder.path(), true); }), HasSubstr("no safetensors file"));
  write_tensor_file(folder / "bank.safetensors", with_bad_values());
  write_tensor_file(folder / "backbone.safetensors", {});
  write_file_atomically(folder / "config.json", "{}");
  const nlohmann::json report = inspect_files(folder.path(), true);
  ASSERT_EQ(report["files"].size(), 2u);
  EXPECT_THAT(report["files"][0]["file"].get<std::string>(), HasSubstr("backbone"));
  error_of(Code::kDataCorruption, [&] { inspect_files(folder.path(), false); });
  error_of(Code::kNotFound, [&] { inspect_files(folder / "none", true); });
}

}  // namespace
}  // namespace recast
