#include "recast/format/tensor_file.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <fstream>
#include <limits>
#include <thread>

#include "format/expect_error.h"
#include "format/malformed_files.h"
#include "format/temporary_folder.h"
#include "recast/format/files.h"

namespace recast {
namespace {

using testing::AnyOf;
using testing::HasSubstr;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

void expect_equal(const TensorFile& got, const TensorFile& want) {
  EXPECT_EQ(got.metadata, want.metadata);
  ASSERT_EQ(got.tensors.size(), want.tensors.size());
  for (const auto& [name, tensor] : want.tensors) {
    const at::Tensor& read = got.tensors.at(name);
    EXPECT_EQ(read.scalar_type(), tensor.scalar_type()) << name;
    EXPECT_EQ(read.sizes(), tensor.sizes()) << name;
    const at::Tensor dense = tensor.contiguous();
    EXPECT_TRUE(read.nbytes() == dense.nbytes() &&
                (dense.nbytes() == 0 || std::memcmp(read.data_ptr(), dense.data_ptr(), dense.nbytes()) == 0))
        << name;
  }
}

TensorFile every_kind() {
  TensorFile file;
  for (const at::ScalarType type :
       {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16, at::kLong, at::kInt, at::kShort, at::kChar, at::kUInt64,
        at::kUInt32, at::kUInt16, at::kByte, at::kBool, at::kComplexFloat, at::kFloat8_e4m3fn, at::kFloat8_e5m2,
        at::kFloat8_e4m3fnuz, at::kFloat8_e5m2fnuz}) {
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
  EXPECT_THAT(refused(at::empty({2}, at::kFloat4_e2m1fn_x2)[0]), HasSubstr("F4 has no dimension"));
  EXPECT_THAT(refused(at::ones({2}, at::kComplexDouble)), HasSubstr("dtype ComplexDouble; convert it to one of F64"));
}

TEST(TensorFile, RefusesKnownDtypesThatItDoesNotHoldByName) {
  for (const std::string dtype : {"F6_E2M3", "F6_E3M2"}) {
    const std::string bytes = file_with("{" + entry("a", dtype, "[0]", "[0,0]") + "}");
    const std::string message = error_of(Code::kUnsupported, [&] { decode_tensor_file(bytes, "memory"); });
    EXPECT_THAT(message, HasSubstr("'a' has dtype " + dtype));
  }
}

TEST(TensorFile, CountsTwoNumbersOfF4AsOneElement) {
  const at::Tensor bytes = at::arange(6, at::kByte).reshape({2, 3});
  const std::string file = encode_tensor_file({{{"a", bytes.view(at::kFloat4_e2m1fn_x2)}}, {}});
  EXPECT_THAT(file, HasSubstr(R"("dtype":"F4","shape":[2,6])"));
  const at::Tensor read = decode_tensor_file(file, "memory").tensors.at("a");
  EXPECT_EQ(read.sizes(), at::IntArrayRef({2, 3}));
  EXPECT_TRUE(read.view(at::kByte).equal(bytes));
  for (const char* shape : {"[3,2,1]", "[2,3]"}) {
    const std::string odd = file_with("{" + entry("a", "F4", shape, "[0,3]") + "}", 3);
    EXPECT_THAT(error_of(Code::kUnsupported, [&] { decode_tensor_file(odd, "memory"); }), HasSubstr("expected pairs"));
  }
}

TEST(TensorFile, WritesStridedAndConjugatedTensorsOfEveryDtypeAsTheirElements) {
  for (const at::ScalarType type : {at::kUInt64, at::kUInt32, at::kUInt16, at::kFloat8_e4m3fn, at::kFloat8_e5m2,
                                    at::kFloat8_e8m0fnu, at::kFloat8_e4m3fnuz, at::kFloat8_e5m2fnuz}) {
    const at::Tensor plain = at::arange(24 * at::elementSize(type)).to(at::kByte).view(type).reshape({4, 6});
    const at::Tensor turned = plain.t();
    const at::Tensor read = decode_tensor_file(encode_tensor_file({{{"a", turned}}, {}}), "memory").tensors.at("a");
    for (std::int64_t i = 0; i < 24; ++i) {
      const auto size = static_cast<std::size_t>(at::elementSize(type));
      const auto* from = static_cast<const char*>(plain.const_data_ptr()) + static_cast<std::size_t>(i) * size;
      const auto* to =
          static_cast<const char*>(read.const_data_ptr()) + static_cast<std::size_t>(i % 6 * 4 + i / 6) * size;
      EXPECT_EQ(std::memcmp(from, to, size), 0) << c10::toString(type);
    }
  }
  const at::Tensor complex = at::complex(at::arange(4, at::kFloat), at::arange(4, at::kFloat));
  const TensorFile read = decode_tensor_file(encode_tensor_file({{{"a", complex.conj()}}, {}}), "memory");
  EXPECT_TRUE(at::view_as_real(read.tensors.at("a")).select(1, 1).equal(-at::arange(4, at::kFloat)));
}

TEST(TensorFile, RefusesAFileThatIsWrittenToWhileItIsRead) {
  TemporaryFolder folder;
  write_tensor_file(folder / "x", {{{"a", at::ones({32 << 20}, at::kByte)}}, {}});
  std::atomic<bool> started = false, over = false;
  std::thread writer([&] {
    std::fstream file(folder / "x", std::ios::binary | std::ios::in | std::ios::out);
    while (!over) {  // the same byte in the same place: only the time of change tells
      file.seekp(-1, std::ios::end);
      file.put(1).flush();
      started = true;
    }
  });
  while (!started) std::this_thread::yield();
  const std::string message = error_of(Code::kDataCorruption, [&] {
    for (int attempt = 0; attempt < 1000; ++attempt) read_tensor_file(folder / "x");
  });
  over = true;
  writer.join();
  EXPECT_THAT(message, HasSubstr("was written to while being read"));
}

TEST(TensorFile, RefusesAFileThatIsCutWhileItIsRead) {
  TemporaryFolder folder;
  write_tensor_file(folder / "x", {{{"a", at::ones({32 << 20}, at::kByte)}}, {}});
  const auto size = std::filesystem::file_size(folder / "x");
  std::atomic<bool> over = false;
  std::thread writer([&] {
    while (!over) {
      std::filesystem::resize_file(folder / "x", size / 2);
      std::filesystem::resize_file(folder / "x", size);
    }
  });
  const std::string message = error_of(Code::kDataCorruption, [&] {
    for (int attempt = 0; attempt < 1000; ++attempt) read_tensor_file(folder / "x");
  });
  over = true;
  writer.join();
  EXPECT_THAT(message, AnyOf(HasSubstr("cut off"), HasSubstr("while being read")));
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

TEST(RequireFinite, FindsThemAnywhereInALongTensor) {
  constexpr std::int64_t kNumbers = 2100;
  for (const at::ScalarType type : {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16})
    for (const std::int64_t place : {0, 1, 1023, 1024, 2047, 2048, 2099})
      for (const float sign : {1.0f, -1.0f}) {
        at::Tensor values = at::full({kNumbers}, -6e4f).to(type);
        values[0] = 0;
        values[kNumbers - 1] = -0.0f;
        EXPECT_EQ(count_non_finite(values).nan + count_non_finite(values).infinite, 0) << c10::toString(type);
        values[place] = sign * kInfinity;
        EXPECT_EQ(count_non_finite(values).infinite, 1) << c10::toString(type) << " at " << place;
        values[place] = sign * std::numeric_limits<float>::quiet_NaN();
        EXPECT_EQ(count_non_finite(values).nan, 1) << c10::toString(type) << " at " << place;
        EXPECT_EQ(count_non_finite(values).infinite, 0) << c10::toString(type) << " at " << place;
      }
}

TEST(RequireFinite, KnowsWhatNanAndInfinityAreInTheSmallDtypes) {
  const auto counted = [](at::ScalarType type) {
    const NonFinite found = count_non_finite(at::arange(256).to(at::kByte).view(type));
    return std::pair(found.nan, found.infinite);
  };
  using Counts = std::pair<std::int64_t, std::int64_t>;
  EXPECT_EQ(counted(at::kFloat8_e4m3fn), Counts(2, 0));
  EXPECT_EQ(counted(at::kFloat8_e5m2), Counts(6, 2));
  EXPECT_EQ(counted(at::kFloat8_e8m0fnu), Counts(1, 0));
  EXPECT_EQ(counted(at::kFloat8_e4m3fnuz), Counts(1, 0));
  EXPECT_EQ(counted(at::kFloat8_e5m2fnuz), Counts(1, 0));
  EXPECT_EQ(counted(at::kFloat4_e2m1fn_x2), Counts(0, 0));
  EXPECT_EQ(counted(at::kUInt16), Counts(0, 0));
  const at::Tensor complex = at::complex(at::tensor({NAN, 1.0f}), at::tensor({1.0f, INFINITY}));
  EXPECT_EQ(count_non_finite(complex).nan, 1);
  EXPECT_EQ(count_non_finite(complex).infinite, 1);
}

TEST(RequireFinite, AcceptsTensorsWithoutElements) { EXPECT_NO_THROW(require_finite({{"a", at::zeros({0})}}, "x")); }

}  // namespace
}  // namespace recast
