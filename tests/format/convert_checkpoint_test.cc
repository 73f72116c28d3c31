// tools/convert_checkpoint.py on checkpoints that torch.save wrote; convert_cases.py makes and converts them.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <sstream>

#include "format/expect_error.h"
#include "format/python_tool.h"
#include "format/temporary_folder.h"
#include "recast/format/files.h"
#include "recast/format/tensor_file.h"

namespace recast {
namespace {

using testing::HasSubstr;

struct Conversion {
  int status = -1;
  int lines = 0;
  std::string text;
};

/// All conversions, made by one Python process for all tests.
struct Conversions {
  Conversions() {
    const Outcome outcome =
        run_program({python_path(), RECAST_SOURCE_DIR "/tests/format/convert_cases.py", folder.path()});
    EXPECT_EQ(outcome.status, 0) << outcome.text;
    std::istringstream rows(outcome.text);
    for (std::string name, rest; std::getline(rows, name, '\t') && std::getline(rows, rest);) {
      std::istringstream fields(rest);
      Conversion conversion;
      fields >> conversion.status >> conversion.lines;
      std::getline(fields >> std::ws, conversion.text);
      by_name.emplace(name, conversion);
    }
  }

  TemporaryFolder folder;
  std::multimap<std::string, Conversion> by_name;
};

const Conversions& conversions() {
  static const Conversions made;
  return made;
}

std::filesystem::path output(const std::string& name) { return conversions().folder / (name + ".safetensors"); }

void expect_weights(const std::string& name, const Conversion& conversion) {
  ASSERT_EQ(conversion.status, 0) << conversion.text;
  EXPECT_THAT(conversion.text, HasSubstr(name + ".safetensors: 2 tensors, 40 bytes"));
  const TensorFile file = read_tensor_file(output(name));
  ASSERT_EQ(file.tensors.size(), 2u);
  EXPECT_TRUE(at::equal(file.tensors.at("a.weight"), at::arange(6, at::kFloat).reshape({2, 3})));
  EXPECT_TRUE(at::equal(file.tensors.at("b.bias"), at::arange(1, 3, at::kLong)));
}

class ConvertCheckpoint : public testing::Test {
 protected:
  void SetUp() override { RECAST_NEED_PYTHON("torch, numpy, safetensors"); }
};

TEST_F(ConvertCheckpoint, UnwrapsEveryUsualForm) {
  for (const std::string name :
       {"plain", "legacy", "state_dict", "model", "state_dict_ema", "model_state_dict", "key"}) {
    SCOPED_TRACE(name);
    const auto found = conversions().by_name.find(name);
    ASSERT_NE(found, conversions().by_name.end());
    expect_weights(name, found->second);
  }
}

TEST_F(ConvertCheckpoint, KeepsTiedWeightsAndNamesWhatItLeavesOut) {
  const Conversion& tied = conversions().by_name.find("tied")->second;
  EXPECT_EQ(tied.status, 0) << tied.text;
  EXPECT_THAT(tied.text, HasSubstr("left out, no tensors: step"));
  EXPECT_EQ(read_tensor_file(output("tied")).tensors.size(), 3u);
}

TEST_F(ConvertCheckpoint, RefusesWhatItCannotConvertInOneLine) {
  const std::vector<std::tuple<std::string, int, std::string>> cases{
      {"none", 4, "no such file"},
      {"student", 3, "choose an entry with --key"},
      {"wrong_key", 3, "has no entry 'teacher'; it has student"},
      {"clash", 3, "two tensors are called 'a'"},
      {"sparse", 3, "sparse"},
      {"complex", 3, "torch.complex64"},
      {"list", 3, "holds a list"},
      {"script", 3, "TorchScript"},
      {"trap", 3, "Python objects"},
      {"cut", 5, "damaged"},
      {"empty", 5, "is empty"},
  };
  for (const auto& [name, status, part] : cases) {
    SCOPED_TRACE(name);
    const auto found = conversions().by_name.find(name);
    ASSERT_NE(found, conversions().by_name.end());
    EXPECT_EQ(found->second.status, status);
    EXPECT_EQ(found->second.lines, 1);
    EXPECT_THAT(found->second.text, HasSubstr(part));
    EXPECT_FALSE(std::filesystem::exists(output(name)));
  }
}

TEST_F(ConvertCheckpoint, SendsNothingToTheTerminalThatItWouldObey) {
  const std::string spelled = "\\x1b]0;owned\\x07\\x1b[2J\\n\\u202e";
  for (const auto& [name, status] :
       std::map<std::string, int>{{"hostile_extra", 0}, {"hostile_tensor", 3}, {"hostile_key", 3}}) {
    SCOPED_TRACE(name);
    const auto found = conversions().by_name.find(name);
    ASSERT_NE(found, conversions().by_name.end());
    const auto& [got, lines, text] = found->second;
    EXPECT_EQ(got, status) << text;
    EXPECT_EQ(lines, status == 0 ? 2 : 1);
    EXPECT_THAT(text, HasSubstr(spelled));
    EXPECT_TRUE(std::all_of(text.begin(), text.end(), [](unsigned char c) { return c >= ' ' && c < 0x7f; })) << text;
    EXPECT_LT(text.size(), 2000u) << "a long name is cut";
  }
}

TEST_F(ConvertCheckpoint, RunsNoCodeOfTheFile) {
  ASSERT_TRUE(std::filesystem::exists(conversions().folder / "trap.pt"));
  EXPECT_FALSE(std::filesystem::exists(conversions().folder / "ran"));
}

TEST_F(ConvertCheckpoint, OverwritesOnlyWhenForced) {
  ASSERT_EQ(conversions().by_name.count("plain"), 2u);  // without --force, then with it
  for (auto [at, end] = conversions().by_name.equal_range("plain"); at != end; ++at)
    expect_weights("plain", at->second);

  TemporaryFolder folder;
  std::ofstream(folder / "in.pth") << "x";
  std::ofstream(folder / "out.safetensors") << "precious";
  const Outcome outcome = run_program(
      {python_path(), RECAST_SOURCE_DIR "/tools/convert_checkpoint.py", folder / "in.pth", folder / "out.safetensors"});
  EXPECT_EQ(outcome.status, 2) << outcome.text;
  EXPECT_THAT(outcome.text, HasSubstr("out.safetensors: exists; give --force to replace it"));
  EXPECT_EQ(read_file(folder / "out.safetensors", 100), "precious");
}

TEST_F(ConvertCheckpoint, ExplainsItself) {
  const Outcome help = run_program({python_path(), RECAST_SOURCE_DIR "/tools/convert_checkpoint.py", "--help"});
  EXPECT_EQ(help.status, 0);
  for (const char* part : {"weights_only=True", "--key", "--force", "example:", "exit status:"}) {
    EXPECT_THAT(help.text, HasSubstr(part));
  }
}

TEST_F(ConvertCheckpoint, IsWhatTheReaderAdvisesForACheckpoint) {
  for (const char* input : {"plain.pth", "legacy.bin"}) {
    EXPECT_THAT(error_of(Code::kUnsupported, [&] { read_tensor_file(conversions().folder / input); }),
                HasSubstr("tools/convert_checkpoint.py"));
  }
}

}  // namespace
}  // namespace recast
