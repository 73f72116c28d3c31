// Against the Python package safetensors: what it writes we read, what we write it reads, what it refuses we refuse.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <set>

#include "format/expect_error.h"
#include "format/malformed_files.h"
#include "format/mutated_files.h"
#include "format/python_tool.h"
#include "format/stricter_files.h"
#include "format/temporary_folder.h"
#include "recast/format/files.h"
#include "recast/format/tensor_file.h"

namespace recast {
namespace {

using testing::HasSubstr;

const std::string kScript = RECAST_SOURCE_DIR "/tests/format/interop.py";

Outcome run_script(const std::string& command, const std::filesystem::path& path) {
  return run_program({python_path(), kScript, command, path.string()});
}

// As DTYPES in interop.py.
const std::vector<std::pair<std::string, at::ScalarType>> kDtypes{{"F64", at::kDouble},
                                                                  {"F32", at::kFloat},
                                                                  {"F16", at::kHalf},
                                                                  {"BF16", at::kBFloat16},
                                                                  {"I64", at::kLong},
                                                                  {"I32", at::kInt},
                                                                  {"I16", at::kShort},
                                                                  {"I8", at::kChar},
                                                                  {"U64", at::kUInt64},
                                                                  {"U32", at::kUInt32},
                                                                  {"U16", at::kUInt16},
                                                                  {"U8", at::kByte},
                                                                  {"BOOL", at::kBool},
                                                                  {"C64", at::kComplexFloat},
                                                                  {"F8_E4M3", at::kFloat8_e4m3fn},
                                                                  {"F8_E5M2", at::kFloat8_e5m2},
                                                                  {"F8_E8M0", at::kFloat8_e8m0fnu},
                                                                  {"F8_E4M3FNUZ", at::kFloat8_e4m3fnuz},
                                                                  {"F8_E5M2FNUZ", at::kFloat8_e5m2fnuz},
                                                                  {"F4", at::kFloat4_e2m1fn_x2}};

std::span<const char> bytes_of(const at::Tensor& tensor) {
  return {static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes()};
}

/// As pattern() in interop.py.
at::Tensor patterned(std::vector<std::int64_t> shape, at::ScalarType type) {
  const at::Tensor tensor = at::empty(shape, type);
  auto* bytes = static_cast<std::uint8_t*>(tensor.data_ptr());
  for (std::size_t i = 0; i < tensor.nbytes(); ++i)
    bytes[i] = static_cast<std::uint8_t>((i * 37 + 11) & (type == at::kBool ? 1 : 255));
  return tensor;
}

/// As expected() in interop.py.
TensorFile expected() {
  TensorFile file;
  for (const auto& [name, type] : kDtypes) {
    const auto element = static_cast<std::int64_t>(at::elementSize(type));
    file.tensors[name] = patterned({2, 24 / element}, type);
    file.tensors[name + ".empty"] = patterned({3, 0}, type);
    if (name != "F4") file.tensors[name + ".scalar"] = patterned({}, type);
  }
  file.tensors["caf\xc3\xa9.\xf0\x9f\x98\x80"] = at::tensor({-1.5f, std::numeric_limits<float>::infinity()});
  file.tensors[""] = at::ones({1});
  file.tensors["rank8"] = at::arange(16).reshape({1, 2, 1, 2, 1, 2, 1, 2});
  file.tensors[std::string(512, 'n')] = at::ones({1}, at::kChar);
  file.metadata = {
      {"format", "pt"}, {"unicode", "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"}, {"line", "a\nb\t\"c\"\\"}};
  return file;
}

void expect_same_bits(const at::Tensor& got, const at::Tensor& want, const std::string& name) {
  EXPECT_EQ(got.scalar_type(), want.scalar_type()) << name;
  EXPECT_EQ(got.sizes(), want.sizes()) << name;
  EXPECT_TRUE(std::ranges::equal(bytes_of(got), bytes_of(want))) << name;
}

/// What the package writes, made by one Python process for all tests.
const TemporaryFolder& written_by_package() {
  static const TemporaryFolder folder;
  static const Outcome outcome = run_script("write", folder.path());
  EXPECT_EQ(outcome.status, 0) << outcome.text;
  return folder;
}

/// One '1' or '0' for each file: whether the package reads it.
std::string judged_by_package(const std::vector<std::string>& files) {
  TemporaryFolder folder;
  std::string row;
  for (const std::string& bytes : files) row += file_claiming(bytes.size(), bytes);
  write_file_atomically(folder / "row", row);
  const Outcome outcome = run_script("judge", folder / "row");
  EXPECT_EQ(outcome.status, 0) << outcome.text;
  const std::string verdicts = outcome.text.substr(0, outcome.text.find('\n'));
  EXPECT_EQ(verdicts.size(), files.size());
  return verdicts;
}

/// Why we do not read it, or empty if we do.
std::string refusal(const std::string& bytes) {
  try {
    decode_tensor_file(bytes, "mutant");
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

TEST(Interoperability, ReadsEveryDtypeThatThePackageWritesBitForBit) {
  RECAST_NEED_PYTHON("torch, numpy, safetensors");
  const TensorFile read = read_tensor_file(written_by_package() / "torch");
  const TensorFile want = expected();
  EXPECT_EQ(read.metadata, want.metadata);
  ASSERT_EQ(read.tensors.size(), want.tensors.size());
  for (const auto& [name, tensor] : want.tensors) expect_same_bits(read.tensors.at(name), tensor, name);
}

TEST(Interoperability, ReadsWhatThePackageWritesFromNumpy) {
  RECAST_NEED_PYTHON("torch, numpy, safetensors");
  const TensorFile read = read_tensor_file(written_by_package() / "numpy");
  EXPECT_EQ(read.tensors.size(), 16u);
  for (const auto& [name, tensor] : read.tensors) {
    if (name == "scalar" || name == "empty") continue;
    const at::Tensor counted = name == "bool" ? at::arange(6).ne(0) : at::arange(6);
    expect_same_bits(tensor, counted.to(tensor.scalar_type()).reshape(tensor.sizes()), name);
  }
  expect_same_bits(read.tensors.at("scalar"), at::scalar_tensor(2.5, at::kDouble), "scalar");
  expect_same_bits(read.tensors.at("empty"), at::zeros({0, 7}, at::kDouble), "empty");
  EXPECT_EQ(read.tensors.at("uint64").scalar_type(), at::kUInt64);
  EXPECT_EQ(read.tensors.at("complex64").scalar_type(), at::kComplexFloat);
}

TEST(Interoperability, WritesWhatThePackageReads) {
  RECAST_NEED_PYTHON("torch, numpy, safetensors");
  TemporaryFolder folder;
  write_tensor_file(folder / "x.safetensors", expected());
  const Outcome outcome = run_script("check", folder / "x.safetensors");
  EXPECT_EQ(outcome.status, 0) << outcome.text;
}

TEST(Interoperability, PassesSixtyFiveThousandTensorsBothWays) {
  RECAST_NEED_PYTHON("torch, numpy, safetensors");
  const TensorFile read = read_tensor_file(written_by_package() / "many");
  ASSERT_EQ(read.tensors.size(), 65'535u);
  for (const auto& [name, tensor] : read.tensors) {
    ASSERT_EQ(tensor.const_data_ptr<std::uint8_t>()[0], std::stoi(name.substr(1)) % 256) << name;
  }
  TemporaryFolder folder;
  write_tensor_file(folder / "many", read);
  const Outcome outcome = run_script("many", folder / "many");
  EXPECT_EQ(outcome.status, 0) << outcome.text;
}

TEST(Interoperability, IsStricterOnMalformedFilesOnlyWhereDocumented) {
  RECAST_NEED_PYTHON("safetensors");
  const std::vector<MalformedFile> files = malformed_headers();
  std::vector<std::string> bytes;
  for (const MalformedFile& file : files) bytes.push_back(file.bytes);
  const std::string verdicts = judged_by_package(bytes);
  for (std::size_t i = 0; i < files.size(); ++i)
    EXPECT_EQ(verdicts.at(i) == '1', files[i].reference_accepts) << files[i].name;
}

TEST(Interoperability, GivesBothAnswersOfEveryRowOfTheTable) {
  RECAST_NEED_PYTHON("safetensors");
  const std::vector<StricterFile> files = stricter_files();
  const std::string page = read_file(RECAST_SOURCE_DIR "/docs/formats.md", 1 << 20);
  std::vector<std::string> bytes;
  for (const StricterFile& file : files) bytes.push_back(file.bytes);
  const std::string verdicts = judged_by_package(bytes);
  for (std::size_t i = 0; i < files.size(); ++i) {
    const StricterFile& file = files[i];
    EXPECT_EQ(verdicts.at(i), '1') << file.row << ": the package refuses it too";
    const std::string message = error_of(file.code, [&] { decode_tensor_file(file.bytes, "x"); });
    EXPECT_THAT(message, HasSubstr(file.message)) << file.row;
    EXPECT_THAT(page, HasSubstr("| " + file.row + " | reads it | `" + std::string(name(file.code)) + "` |"));
  }
}

TEST(Interoperability, ReadsNoFileOverAHundredGigabytesThoughThePackageDoes) {
  RECAST_NEED_PYTHON("safetensors, numpy");
  constexpr std::uint64_t kBytes = 100'000'000'000;
  TemporaryFolder folder;
  const std::string header = file_with("{" + entry("a", "U8", "[100000000000]", "[0,100000000000]") + "}");
  std::ofstream(folder / "x", std::ios::binary) << header;
  std::error_code error;
  std::filesystem::resize_file(folder / "x", header.size() + kBytes, error);  // takes no room on the disk
  if (error) GTEST_SKIP() << "no file of 100 GB can be made here: " << error.message();
  EXPECT_THAT(error_of(Code::kExhausted, [&] { read_tensor_file(folder / "x"); }), HasSubstr("at most 100000000000"));
  const Outcome outcome = run_script("open", folder / "x");
  EXPECT_EQ(outcome.text, "1\n") << "the package cannot open it either";
}

TEST(Interoperability, RefusesEveryMutantThatThePackageRefuses) {
  RECAST_NEED_PYTHON("safetensors");
  const std::vector<std::string> good = good_files();
  TensorFile small;
  small.tensors = {{"a", at::ones({2, 3})}, {"b", at::ones({4}, at::kByte)}, {"c", at::ones({}, at::kDouble)}};
  small.metadata = {{"k", "v"}};
  std::vector<std::string> mutants;
  const auto add = [&](const std::vector<std::string>& more) {
    mutants.insert(mutants.end(), more.begin(), more.end());
  };
  add(good);
  constexpr std::size_t kDataBytes[] = {12, 8, 0};
  for (std::size_t i = 0; i < good.size(); ++i) {
    add(truncations(good[i]));
    add(single_byte_changes(good[i], kDataBytes[i]));
    add(token_changes(good[i], kDataBytes[i]));
  }
  add(splices(good, 5'000));
  add(random_changes(encode_tensor_file(small), 20'000));
  const std::string verdicts = judged_by_package(mutants);
  std::set<std::string> reasons;
  for (const StricterFile& file : stricter_files()) reasons.insert(file.message);
  int by_both = 0, by_package_alone = 0;
  for (std::size_t i = 0; i < mutants.size(); ++i) {
    const std::string reason = refusal(mutants[i]);
    const bool package = verdicts.at(i) == '1';
    EXPECT_TRUE(package || !reason.empty()) << testing::PrintToString(mutants[i]);
    const auto gives = [&](const std::string& known) { return reason.find(known) != reason.npos; };
    EXPECT_TRUE(!package || reason.empty() || std::ranges::any_of(reasons, gives)) << reason;
    by_both += package && reason.empty();
    by_package_alone += package && !reason.empty();
  }
  RecordProperty("files", static_cast<int>(mutants.size()));
  RecordProperty("read_by_both", by_both);
  RecordProperty("read_by_the_package_alone", by_package_alone);
  EXPECT_GT(by_both, 1000) << "the mutants are too wild to say anything";
}

}  // namespace
}  // namespace recast
