#include "recast/format/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "format/expect_error.h"
#include "format/malformed_files.h"

namespace recast {
namespace {

using testing::HasSubstr;

SafetensorsHeader parse(const std::string& bytes, const SafetensorsLimits& limits = {}) {
  return parse_safetensors_header(std::as_bytes(std::span(bytes)), bytes.size(), limits, "x.safetensors");
}

TEST(Safetensors, RefusesEveryMalformedHeaderAndSaysWhy) {
  for (const MalformedFile& file : malformed_headers()) {
    SCOPED_TRACE(file.name);
    const std::string message = error_of(file.code, [&] { parse(file.bytes); });
    EXPECT_THAT(message, HasSubstr(file.message));
    EXPECT_THAT(message, HasSubstr("x.safetensors"));
  }
}

TEST(Safetensors, AcceptsWhitespaceAroundTheHeader) {
  const std::string object = "{" + entry("a", "F32", "[1]", "[0,4]") + "}";
  EXPECT_EQ(parse(file_with("  \n" + object + " \t  ", 4)).entries.size(), 1u);
}

TEST(Safetensors, ReadsEntriesInTheOrderOfTheirOffsets) {
  const std::string header = "{" + entry("a", "F32", "[1,2]", "[5,13]") + "," + entry("scalar", "F32", "[]", "[1,5]") +
                             "," + entry("z", "U8", "[1]", "[0,1]") + R"(,"__metadata__":{"k":"v"}})";
  const SafetensorsHeader read = parse(file_with(header, 13));
  const std::vector<TensorEntry> expected{
      {"z", "U8", {1}, 0, 1}, {"scalar", "F32", {}, 1, 5}, {"a", "F32", {1, 2}, 5, 13}};
  EXPECT_EQ(read.entries, expected);
  EXPECT_EQ(read.metadata, (std::map<std::string, std::string>{{"k", "v"}}));
  EXPECT_EQ(read.data_begin, 8 + header.size());
}

TEST(Safetensors, AcceptsTensorsWithoutBytesAtEveryBorder) {
  const std::string header = "{" + entry("a", "F32", "[1]", "[0,4]") + "," + entry("b", "F32", "[1]", "[4,8]") + "," +
                             entry("y", "F32", "[0]", "[0,0]") + "," + entry("z", "F32", "[2,0]", "[4,4]") + "," +
                             entry("zz", "F32", "[0]", "[8,8]") + "}";
  EXPECT_EQ(parse(file_with(header, 8)).entries.size(), 5u);
}

TEST(Safetensors, AcceptsAFileWithoutTensors) { EXPECT_TRUE(parse(file_with("{}")).entries.empty()); }

TEST(Safetensors, AppliesEachLimit) {
  const std::string bytes =
      file_with("{" + entry("a", "U8", "[1]", "[0,1]") + "," + entry("b", "U8", "[1]", "[1,2]") + "}", 2);
  EXPECT_THAT(error_of(Code::kExhausted, [&] { parse(bytes, {.header_bytes = 10}); }), HasSubstr("at most 10"));
  EXPECT_THAT(error_of(Code::kExhausted, [&] { parse(bytes, {.file_bytes = 20}); }), HasSubstr("at most 20"));
  EXPECT_THAT(error_of(Code::kExhausted, [&] { parse(bytes, {.tensors = 1}); }), HasSubstr("2 tensors; at most 1"));
}

TEST(Safetensors, RefusesAHundredThousandTensorsOnTheSameBytes) {
  std::string header = "{";
  for (int i = 0; i < 100'000; ++i) header += entry("t" + std::to_string(i), "F32", "[1]", "[0,4]") + ",";
  header.back() = '}';
  EXPECT_THAT(error_of(Code::kExhausted, [&] { parse(file_with(header, 4)); }), HasSubstr("100000 tensors"));
}

TEST(Safetensors, RefusesAHeaderThatWouldFillTheMemory) {
  std::string header = R"({"a":[)";
  for (int i = 0; i < 2'000'000; ++i) header += "[],";
  header.back() = ']';
  EXPECT_THAT(error_of(Code::kExhausted, [&] { parse(file_with(header + "}")); }), HasSubstr("values"));
}

TEST(Safetensors, RefusesAHeaderBeyondTheDefaultLimitBeforeReadingIt) {
  const std::string probe = file_claiming(100'000'001, "{");
  const auto call = [&] { safetensors_prefix_bytes(std::as_bytes(std::span(probe)), 200'000'000, {}, "big"); };
  EXPECT_THAT(error_of(Code::kExhausted, call), HasSubstr("100000001 bytes; at most 100000000"));
}

TEST(Safetensors, NamesOtherKindsOfFilesAndTheRemedy) {
  const std::string tar = std::string(257, 'n') + "ustar" + std::string(250, '\0');
  const std::vector<std::array<std::string, 3>> kinds{
      {"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS pointer", "git lfs pull"},
      {"\n<!DOCTYPE html><html></html>", "web page", "direct link"},
      {"<HTML><head>", "web page", "direct link"},
      {"<?xml version='1.0'?><Error/>", "web page", "direct link"},
      {std::string("PK\3\4\0\0\x8\x8", 8) + std::string(22, '\0') + "archive/data.pklXX", "PyTorch checkpoint",
       "tools/convert_checkpoint.py FILE.pth OUT.safetensors"},
      {std::string("PK\3\4\x14\0\0\0", 8) + "mimetype", "zip archive", "tools/convert_checkpoint.py"},
      {std::string("\x1f\x8b\x08\0\0\0\0\0\0\3rest", 14), "gzip", "gunzip"},
      {std::string("\x7f"
                   "ELF\2\1\1\0",
                   8),
       "ELF", "safetensors"},
      {std::string("MZ\x90\0\3\0\0\0\4\0\0\0", 12), "PE", "safetensors"},
      {std::string("\xfd"
                   "7zXZ\0\0\4",
                   8),
       "xz", "unxz"},
      {"BZh91AY&SY", "bzip2", "bunzip2"},
      {std::string("\x28\xb5\x2f\xfd\0\0\0\0\0", 9), "zstd", "unzstd"},
      {"7z\xbc\xaf\x27\x1c", "7z archive", "unpack"},
      {std::string("SQLite format 3\0", 16), "SQLite", "tasks DIR export"},
      {std::string("\x80\2\x8a\nl\xfc\x9c\x46", 8), "pickle", "tools/convert_checkpoint.py"},
      {std::string("\x80\4\x95\0\0\0\0\0\0\0\0}", 12), "pickle", "tools/convert_checkpoint.py"},
      {"\x89HDF\r\n\x1a\n", "HDF5", "safetensors"},
      {"\x93NUMPY\1", "NumPy", "safetensors"},
      {"GGUF\3", "GGUF", "safetensors"},
      {R"({"metadata": {"total_size": 1}})", "JSON text", "not an index"},
      {tar, "tar archive", "unpack"},
      {"Entry not found", "text that begins 'Entry not found'", "direct link"},
      {"(dp0\nVweight\np1\nI1\ns.", "text that begins '(dp0\\x0aVweight", "direct link"},
  };
  for (const auto& [bytes, what, remedy] : kinds) {
    const std::string message = error_of(Code::kUnsupported, [&] { parse(bytes); });
    EXPECT_THAT(message, HasSubstr(what));
    EXPECT_THAT(message, HasSubstr(remedy));
  }
}

TEST(Safetensors, CallsItsOwnDamagedFilesDamagedThoughTheLengthLooksLikeAnotherMagic) {
  for (const std::uint64_t length : {std::uint64_t{0x7b}, std::uint64_t{0x8b1f}, std::uint64_t{0x0280}}) {
    const std::string message = error_of(Code::kDataCorruption, [&] { parse(file_claiming(length, "{\"a\"")); });
    EXPECT_THAT(message, HasSubstr("claims"));
  }
}

TEST(Safetensors, WritesHeadersThatItReadsBack) {
  std::vector<TensorEntry> entries{{"small", "U8", {3}, 0, 0},
                                   {"\xc3\xa9\xe2\x82\xac \"quoted\\", "F32", {2, 2}, 0, 0},
                                   {"scalar", "F64", {}, 0, 0},
                                   {"half", "BF16", {1}, 0, 0},
                                   {"none", "F32", {0, 7}, 0, 0}};
  assign_safetensors_offsets(entries);
  const std::map<std::string, std::string> metadata{{"line", "a\nb"}, {"empty", ""}};
  const std::string header = encode_safetensors_header(entries, metadata);
  EXPECT_EQ(header.size() % 8, 0u);
  const std::string bytes = header + std::string(entries.back().end, '\0');
  const SafetensorsHeader read = parse(bytes);
  EXPECT_EQ(read.entries, entries);
  EXPECT_EQ(read.metadata, metadata);
  EXPECT_EQ(read.data_begin, header.size());
}

TEST(Safetensors, AlignsEveryTensorForItsDtype) {
  std::vector<TensorEntry> entries{
      {"a", "U8", {3}, 0, 0}, {"b", "F64", {1}, 0, 0}, {"c", "BF16", {1}, 0, 0}, {"d", "F32", {1}, 0, 0}};
  assign_safetensors_offsets(entries);
  for (const TensorEntry& e : entries) EXPECT_EQ(e.begin % (safetensors_dtype_bits(e.dtype) / 8), 0u) << e.name;
  EXPECT_EQ(entries.front().name, "b");
  EXPECT_EQ(entries.back().end, 17u);
}

TEST(Safetensors, RefusesToWriteWhatItWouldNotRead) {
  const auto header = [](std::string name, std::vector<std::int64_t> shape,
                         std::map<std::string, std::string> metadata) {
    std::vector<TensorEntry> entries{{std::move(name), "U8", std::move(shape), 0, 0}};
    assign_safetensors_offsets(entries);
    encode_safetensors_header(entries, metadata);
  };
  const auto refused = [&](auto... args) { return error_of(Code::kInvalidArgument, [&] { header(args...); }); };
  const std::map<std::string, std::string> none;
  using Shape = std::vector<std::int64_t>;
  EXPECT_THAT(refused("__metadata__", Shape{1}, none), HasSubstr("reserves"));
  EXPECT_THAT(refused("a\nb", Shape{1}, none), HasSubstr("control character"));
  EXPECT_THAT(refused("\xff", Shape{1}, none), HasSubstr("UTF-8"));
  EXPECT_THAT(refused(std::string(600, 'x'), Shape{1}, none), HasSubstr("at most 512"));
  EXPECT_THAT(refused("a", Shape(9, 1), none), HasSubstr("at most 8"));
  EXPECT_THAT(refused("a", Shape{-1}, none), HasSubstr("size"));
  EXPECT_THAT(refused("a", Shape{1}, std::map<std::string, std::string>{{"k", "\xff"}}), HasSubstr("UTF-8"));
  const std::vector<TensorEntry> twice{{"a", "U8", {1}, 0, 1}, {"a", "U8", {1}, 1, 2}};
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { encode_safetensors_header(twice, {}); }), HasSubstr("twice"));
}

}  // namespace
}  // namespace recast
