#include "recast/format/tensor_file.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <limits>

#include "format/expect_error.h"
#include "format/malformed_files.h"
#include "format/temporary_folder.h"
#include "recast/format/files.h"

namespace recast {
namespace {

using testing::HasSubstr;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

void expect_equal(const TensorFile& got, const TensorFile& want) {
  EXPECT_EQ(got.metadata, want.metadata);
  ASSERT_EQ(got.tensors.size(), want.tensors.size());
  for (const auto& [name, tensor] : want.tensors) {
    const at::Tensor& read = got.tensors.at(name);
    EXPECT_EQ(read.scalar_type(), tensor.scalar_type()) << name;
    EXPECT_EQ(read.sizes(), tensor.sizes()) << name;
    EXPECT_TRUE(at::equal(read, tensor.contiguous())) << name;
  }
}

TensorFile every_kind() {
  TensorFile file;
  for (const at::ScalarType type : {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16, at::kLong, at::kInt, at::kShort,
                                    at::kChar, at::kByte, at::kBool}) {
    file.tensors[std::string("dtype.") + c10::toString(type)] = at::arange(21).remainder(2).to(type).reshape({3, 7});
  }
  file.tensors["scalar"] = at::scalar_tensor(-2.5, at::kFloat);
  file.tensors["empty"] = at::zeros({3, 0, 2}, at::kByte);
  file.tensors["eight"] = at::ones({1, 2, 1, 2, 1, 2, 1, 2});
  file.tensors["\xe6\xa8\xa1.\"q\"\\"] = at::tensor({1.0f, kInfinity});
  file.tensors[""] = at::ones({1}, at::kByte);
  file.metadata = {{"", "empty key"}, {"line", "a\nb"}};
  return file;
}

TEST(TensorFile, ReadsBackEveryDtypeShapeAndName) {
  const TensorFile file = every_kind();
  expect_equal(decode_tensor_file(encode_tensor_file(file), "memory"), file);
  TemporaryFolder folder;
  write_tensor_file(folder / "x.safetensors", file);
  expect_equal(read_tensor_file(folder / "x.safetensors"), file);
  EXPECT_EQ(read_file(folder / "x.safetensors", 1 << 20), encode_tensor_file(file));
}

TEST(TensorFile, MayHoldNoTensor) {
  const std::string bytes = encode_tensor_file({});
  EXPECT_EQ(bytes, file_with("{}      "));
  expect_equal(decode_tensor_file(bytes, "memory"), {});
}

TEST(TensorFile, HasTheSameBytesWhateverTheStridesAndGradients) {
  const at::Tensor plain = at::arange(12, at::kFloat).reshape({3, 4});
  const std::string expected = encode_tensor_file({{{"a", plain}}, {}});
  const at::Tensor transposed = plain.t().contiguous().t();
  const at::Tensor every_second = at::stack({plain, plain}, 2).select(2, 0);
  EXPECT_FALSE(transposed.is_contiguous());
  EXPECT_EQ(encode_tensor_file({{{"a", transposed}}, {}}), expected);
  EXPECT_EQ(encode_tensor_file({{{"a", every_second}}, {}}), expected);
  EXPECT_EQ(encode_tensor_file({{{"a", plain.clone().requires_grad_()}}, {}}), expected);
}

TEST(TensorFile, GivesTensorsTheirOwnAlignedMemory) {
  const std::string header =
      "{" + entry("byte", "U8", "[1]", "[0,1]") + "," + entry("double", "F64", "[2]", "[1,17]") + "}";
  const TensorFile file = decode_tensor_file(file_with(header, 17), "memory");
  const at::Tensor& tensor = file.tensors.at("double");
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.data_ptr()) % alignof(double), 0u);
  EXPECT_EQ(tensor.storage().nbytes(), 16u);
}

TEST(TensorFile, RefusesToWriteWhatIsNotDense) {
  const auto refused = [](const at::Tensor& tensor) {
    return error_of(Code::kUnsupported, [&] { encode_tensor_file({{{"a", tensor}}, {}}); });
  };
  EXPECT_THAT(refused(at::ones({2, 2}).to_sparse()), HasSubstr("sparse"));
  EXPECT_THAT(refused(at::quantize_per_tensor(at::ones({2}), 0.1, 0, at::kQInt8)), HasSubstr("quantised"));
  EXPECT_THAT(refused(at::empty({2}, at::TensorOptions().device(at::kMeta))), HasSubstr("meta"));
  EXPECT_THAT(refused(at::Tensor()), HasSubstr("undefined"));
  EXPECT_THAT(refused(at::ones({2}, at::kComplexFloat)), HasSubstr("dtype ComplexFloat; convert it to one of F64"));
}

TEST(TensorFile, RefusesKnownDtypesThatItDoesNotHoldByName) {
  for (const std::string dtype : {"U16", "F8_E4M3", "C64"}) {
    const std::string bytes = file_with("{" + entry("a", dtype, "[0]", "[0,0]") + "}");
    const std::string message = error_of(Code::kUnsupported, [&] { decode_tensor_file(bytes, "memory"); });
    EXPECT_THAT(message, HasSubstr("'a' has dtype " + dtype));
  }
}

TEST(TensorFile, RefusesBooleansThatAreNeitherTrueNorFalse) {
  std::string bytes = file_with("{" + entry("a", "BOOL", "[2]", "[0,2]") + "}", 2);
  bytes.back() = 2;
  EXPECT_THAT(error_of(Code::kDataCorruption, [&] { decode_tensor_file(bytes, "memory"); }), HasSubstr("the byte 2"));
}

TEST(TensorFile, RefusesMalformedFilesOnDiskAsInMemory) {
  TemporaryFolder folder;
  for (const MalformedFile& file : malformed_headers()) {
    SCOPED_TRACE(file.name);
    std::ofstream(folder / "x.safetensors", std::ios::binary | std::ios::trunc) << file.bytes;
    const std::string message = error_of(file.code, [&] { read_tensor_file(folder / "x.safetensors"); });
    EXPECT_THAT(message, HasSubstr(file.message));
    EXPECT_THAT(message, HasSubstr((folder / "x.safetensors").string()));
  }
}

TEST(TensorFile, RefusesEveryTruncationOfAGoodFile) {
  const std::string good = encode_tensor_file(every_kind());
  for (std::size_t size = 0; size < good.size(); ++size) {
    error_of(Code::kDataCorruption, [&] { decode_tensor_file(std::string_view(good).substr(0, size), "memory"); });
  }
}

TEST(TensorFile, NeedsNoMemoryToRefuseAHugeClaim) {
  const std::string bytes = file_with("{" + entry("a", "F32", "[20000000000]", "[0,80000000000]") + "}", 4);
  EXPECT_THAT(error_of(Code::kDataCorruption, [&] { decode_tensor_file(bytes, "memory"); }), HasSubstr("cut off"));
}

/// Leaves this process `bytes` of further address space.
class AddressSpaceLimit {
 public:
  explicit AddressSpaceLimit(rlim_t bytes) {
    std::uint64_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    ::getrlimit(RLIMIT_AS, &before_);
    const rlimit limit{pages * static_cast<rlim_t>(::getpagesize()) + bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_AS, &limit);
  }
  ~AddressSpaceLimit() { ::setrlimit(RLIMIT_AS, &before_); }

 private:
  rlimit before_{};
};

TEST(TensorFile, ReportsMemoryThatIsNotThere) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the address sanitizer needs the address space that this test takes away";
#endif
  constexpr std::uint64_t kDataBytes = 8'000'000'000;
  TemporaryFolder folder;
  const std::string header = file_with("{" + entry("a", "U8", "[8000000000]", "[0,8000000000]") + "}");
  std::ofstream(folder / "sparse", std::ios::binary) << header;
  std::filesystem::resize_file(folder / "sparse", header.size() + kDataBytes);  // takes no room on the disk
  const AddressSpaceLimit limit(1'000'000'000);
  EXPECT_THAT(error_of(Code::kExhausted, [&] { read_tensor_file(folder / "sparse"); }),
              HasSubstr("needs 8000000000 bytes of memory"));
}

TEST(TensorFile, SaysWhichFileIsMissing) {
  EXPECT_THAT(error_of(Code::kNotFound, [] { read_tensor_file("/no/such.safetensors"); }), HasSubstr("/no/such"));
}

TEST(TensorFile, KeepsTheOldFileWhenTheNewOneCannotBeWritten) {
  TemporaryFolder folder;
  write_tensor_file(folder / "x", every_kind());
  const std::string before = read_file(folder / "x", 1 << 20);
  error_of(Code::kUnsupported, [&] { write_tensor_file(folder / "x", {{{"a", at::Tensor()}}, {}}); });
  EXPECT_EQ(read_file(folder / "x", 1 << 20), before);
  EXPECT_EQ(folder.entries(), 1u);
}

TEST(RequireFinite, CountsNanAndInfinityOfTheFirstBadTensor) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  NamedTensors tensors{{"a.good", at::ones({4})}, {"b.int", at::ones({4}, at::kLong)}};
  EXPECT_NO_THROW(require_finite(tensors, "x"));
  tensors["c.bad"] = at::tensor({nan, 1.0f, kInfinity, -kInfinity, 0.0f}).to(at::kBFloat16);
  EXPECT_THAT(error_of(Code::kDataCorruption, [&] { require_finite(tensors, "x.safetensors"); }),
              HasSubstr("x.safetensors: tensor 'c.bad' holds 1 NaN and 2 infinite values of 5"));
}

TEST(RequireFinite, CountsInEveryFloatingDtypeAndLayout) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const at::Tensor values = at::tensor({nan, -nan, 1.0f, -kInfinity, -0.0f, 6e4f}).reshape({2, 3}).t();
  for (const at::ScalarType type : {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16}) {
    const std::string message = error_of(Code::kDataCorruption, [&] { require_finite({{"a", values.to(type)}}, "x"); });
    EXPECT_THAT(message, HasSubstr("2 NaN and 1 infinite values of 6")) << c10::toString(type);
    EXPECT_NO_THROW(require_finite({{"a", at::full({3}, -6e4f).to(type)}}, "x"));
  }
}

TEST(RequireFinite, AcceptsTensorsWithoutElements) { EXPECT_NO_THROW(require_finite({{"a", at::zeros({0})}}, "x")); }

}  // namespace
}  // namespace recast
