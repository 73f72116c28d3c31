// Against the Python package safetensors: what it writes we read, what we write it reads, what it refuses we refuse.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "format/expect_error.h"
#include "format/malformed_files.h"
#include "format/python_tool.h"
#include "format/temporary_folder.h"
#include "recast/format/files.h"
#include "recast/format/tensor_file.h"

namespace recast {
namespace {

const std::string kScript = RECAST_SOURCE_DIR "/tests/format/interop.py";

/// As expected() in interop.py.
TensorFile expected() {
  TensorFile file;
  const std::vector<std::pair<std::string, at::ScalarType>> dtypes{
      {"F64", at::kDouble}, {"F32", at::kFloat}, {"F16", at::kHalf}, {"BF16", at::kBFloat16}, {"I64", at::kLong},
      {"I32", at::kInt},    {"I16", at::kShort}, {"I8", at::kChar},  {"U8", at::kByte},       {"BOOL", at::kBool}};
  for (const auto& [name, type] : dtypes) {
    const at::Tensor counted = at::arange(15);
    file.tensors[name] = (type == at::kBool ? counted.remainder(2) : counted).to(type).reshape({3, 5});
  }
  file.tensors["scalar"] = at::scalar_tensor(0.1, at::kDouble);
  file.tensors["empty"] = at::zeros({0, 7});
  file.tensors["caf\xc3\xa9.\xf0\x9f\x98\x80"] = at::tensor({-1.5f, std::numeric_limits<float>::infinity()});
  file.metadata = {
      {"format", "pt"}, {"unicode", "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"}, {"line", "a\nb\t\"c\"\\"}};
  return file;
}

/// One '1' or '0' for each file: whether the package reads it.
std::string judged_by_package(const std::vector<std::string>& files) {
  TemporaryFolder folder;
  std::string row;
  for (const std::string& bytes : files) row += file_claiming(bytes.size(), bytes);
  write_file_atomically(folder / "row", row);
  const Outcome outcome = run_program({python_path(), kScript, "judge", folder / "row"});
  EXPECT_EQ(outcome.status, 0) << outcome.text;
  return outcome.text.substr(0, outcome.text.find('\n'));
}

bool we_read(const std::string& bytes) {
  try {
    decode_tensor_file(bytes, "mutant");
    return true;
  } catch (const Error&) {
    return false;
  }
}

TEST(Interoperability, ReadsWhatThePackageWrites) {
  RECAST_NEED_PYTHON("torch, numpy, safetensors");
  TemporaryFolder folder;
  const Outcome outcome = run_program({python_path(), kScript, "write", folder / "x.safetensors"});
  ASSERT_EQ(outcome.status, 0) << outcome.text;
  const TensorFile read = read_tensor_file(folder / "x.safetensors");
  const TensorFile want = expected();
  EXPECT_EQ(read.metadata, want.metadata);
  ASSERT_EQ(read.tensors.size(), want.tensors.size());
  for (const auto& [name, tensor] : want.tensors) {
    const at::Tensor& got = read.tensors.at(name);
    EXPECT_EQ(got.scalar_type(), tensor.scalar_type()) << name;
    EXPECT_TRUE(at::equal(got, tensor)) << name;
  }
}

TEST(Interoperability, WritesWhatThePackageReads) {
  RECAST_NEED_PYTHON("torch, numpy, safetensors");
  TemporaryFolder folder;
  write_tensor_file(folder / "x.safetensors", expected());
  const Outcome outcome = run_program({python_path(), kScript, "check", folder / "x.safetensors"});
  EXPECT_EQ(outcome.status, 0) << outcome.text;
}

TEST(Interoperability, IsStricterOnMalformedFilesOnlyWhereDocumented) {
  RECAST_NEED_PYTHON("safetensors");
  const std::vector<MalformedFile> files = malformed_headers();
  std::vector<std::string> bytes;
  for (const MalformedFile& file : files) bytes.push_back(file.bytes);
  const std::string verdicts = judged_by_package(bytes);
  ASSERT_EQ(verdicts.size(), files.size());
  for (std::size_t i = 0; i < files.size(); ++i)
    EXPECT_EQ(verdicts[i] == '1', files[i].reference_accepts) << files[i].name;
}

TEST(Interoperability, RefusesEveryMutantThatThePackageRefuses) {
  RECAST_NEED_PYTHON("safetensors");
  TensorFile small;
  small.tensors = {{"a", at::ones({2, 3})}, {"b", at::ones({4}, at::kByte)}, {"c", at::ones({}, at::kDouble)}};
  small.metadata = {{"k", "v"}};
  const std::string good = encode_tensor_file(small);
  const std::string alphabet = "{}[]\",:0123456789-.eE \\u_abcFBIU\xc3\xa9\x01";
  std::mt19937 random(1);
  const auto draw = [&](std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random); };
  std::vector<std::string> mutants;
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes = good;
    for (std::size_t edits = 1 + draw(3); edits > 0; --edits) {
      const std::size_t at = draw(10) == 0 ? draw(8) : 8 + draw(bytes.size() - 8);
      switch (draw(4)) {
        case 0:
          bytes.erase(at, 1);
          break;
        case 1:
          bytes.insert(at, 1, alphabet[draw(alphabet.size())]);
          break;
        case 2:
          bytes[at] = static_cast<char>(draw(256));
          break;
        default:
          bytes[at] = alphabet[draw(alphabet.size())];
      }
    }
    mutants.push_back(bytes);
  }
  const std::string verdicts = judged_by_package(mutants);
  ASSERT_EQ(verdicts.size(), mutants.size());
  int read_by_both = 0;
  for (std::size_t i = 0; i < mutants.size(); ++i) {
    const bool ours = we_read(mutants[i]);
    EXPECT_TRUE(!ours || verdicts[i] == '1') << testing::PrintToString(mutants[i]);
    read_by_both += ours;
  }
  EXPECT_GT(read_by_both, 100) << "the mutants are too wild to say anything";
}

}  // namespace
}  // namespace recast
