#include "recast/format/files.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <fstream>

#include "format/expect_error.h"
#include "format/file_size_limit.h"
#include "format/temporary_folder.h"

namespace recast {
namespace {

using testing::HasSubstr;

constexpr std::uint64_t kPlenty = 1 << 20;

void put(const std::filesystem::path& path, std::string_view bytes) { std::ofstream(path, std::ios::binary) << bytes; }

TEST(Files, ReadBackWhatWasWritten) {
  TemporaryFolder folder;
  std::string bytes("a\0b\r\n\xff", 6);
  write_file_atomically(folder / "x", bytes);
  EXPECT_EQ(read_file(folder / "x", kPlenty), bytes);
  write_file_atomically(folder / "x", "");
  EXPECT_EQ(read_file(folder / "x", kPlenty), "");
  EXPECT_EQ(folder.entries(), 1u);
}

TEST(Files, NameTheMissingFile) {
  EXPECT_THAT(error_of(Code::kNotFound, [] { read_file("/no/such/file", kPlenty); }), HasSubstr("/no/such/file"));
}

TEST(Files, RefuseAFolderAPipeAndAFileBeyondTheLimit) {
  TemporaryFolder folder;
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { read_file(folder.path(), kPlenty); }), HasSubstr("is a folder"));
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { read_file(folder / "pipe", kPlenty); }), HasSubstr("pipe"));
  put(folder / "big", "12345");
  EXPECT_THAT(error_of(Code::kExhausted, [&] { read_file(folder / "big", 4); }), HasSubstr("5 bytes; at most 4"));
}

TEST(Files, RefuseALinkToItselfAndANameThatIsTooLong) {
  TemporaryFolder folder;
  std::filesystem::create_symlink("loop", folder / "loop");
  EXPECT_THAT(error_of(Code::kNotFound, [&] { read_file(folder / "loop", kPlenty); }), HasSubstr("back to itself"));
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { read_file(folder / std::string(300, 'n'), kPlenty); }),
              HasSubstr("choose a shorter one"));
}

TEST(InputFile, NoticesAFileThatWasCutWhileOpen) {
  TemporaryFolder folder;
  put(folder / "x", "0123456789");
  const InputFile file(folder / "x");
  std::filesystem::resize_file(folder / "x", 4);
  std::array<std::byte, 10> out{};
  EXPECT_THAT(error_of(Code::kDataCorruption, [&] { file.read_at(0, out); }), HasSubstr("ends at byte 4"));
  EXPECT_THAT(error_of(Code::kDataCorruption, [&] { file.check_unchanged(); }), HasSubstr("10 bytes before, 4 after"));
}

TEST(InputFile, NoticesAFileThatWasRewrittenAtTheSameSize) {
  TemporaryFolder folder;
  put(folder / "x", "0123456789");
  std::filesystem::last_write_time(folder / "x", std::filesystem::file_time_type::clock::now() - std::chrono::hours(1));
  const InputFile file(folder / "x");
  file.check_unchanged();
  put(folder / "x", "9876543210");
  EXPECT_THAT(error_of(Code::kDataCorruption, [&] { file.check_unchanged(); }), HasSubstr("while being read"));
}

TEST(AtomicFile, KeepsTheOldContentUntilCommit) {
  TemporaryFolder folder;
  put(folder / "x", "old");
  {
    AtomicFile file(folder / "x");
    file.write("new");
    EXPECT_EQ(read_file(folder / "x", kPlenty), "old");
  }
  EXPECT_EQ(read_file(folder / "x", kPlenty), "old");
  EXPECT_EQ(folder.entries(), 1u);
}

TEST(AtomicFile, ReplacesALinkInsteadOfFollowingIt) {
  TemporaryFolder folder;
  put(folder / "target", "old");
  std::filesystem::create_symlink(folder / "target", folder / "link");
  write_file_atomically(folder / "link", "new");
  EXPECT_EQ(read_file(folder / "target", kPlenty), "old");
  EXPECT_EQ(read_file(folder / "link", kPlenty), "new");
  EXPECT_FALSE(std::filesystem::is_symlink(folder / "link"));
}

TEST(AtomicFile, LeavesAPipeOrDeviceWhereItIs) {
  TemporaryFolder folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  std::filesystem::create_symlink(folder / "pipe", folder / "link");
  for (const char* name : {"pipe", "link"})
    EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { write_file_atomically(folder / name, "new"); }),
                HasSubstr("is a pipe or device"));
  EXPECT_TRUE(std::filesystem::is_fifo(folder / "pipe"));
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link"));
}

TEST(AtomicFile, SaysWhyItCannotStart) {
  TemporaryFolder folder;
  EXPECT_THAT(error_of(Code::kNotFound, [&] { write_file_atomically(folder / "none/x", "a"); }), HasSubstr("none/x"));
  EXPECT_THAT(error_of(Code::kInvalidArgument, [&] { write_file_atomically(folder.path(), "a"); }),
              HasSubstr("folder"));
}

TEST(AtomicFile, LeavesNothingBehindWhenTheWriteFails) {
  TemporaryFolder folder;
  put(folder / "x", "old");
  std::string message;
  {
    const FileSizeLimit limit(1000);
    message = error_of(Code::kUnavailable, [&] { write_file_atomically(folder / "x", std::string(5000, 'n')); });
  }
  EXPECT_THAT(message, HasSubstr((folder / "x").string()));
  EXPECT_THAT(message, HasSubstr("File too large"));
  EXPECT_THAT(message, HasSubstr("needs 5000 bytes"));
  EXPECT_EQ(read_file(folder / "x", kPlenty), "old");
  EXPECT_EQ(folder.entries(), 1u);
}

TEST(Sha256, AgreesWithThePublishedVectors) {
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Sha256, IsTheSameInPiecesAndStartsAfresh) {
  Sha256 hash;
  for (int round = 0; round < 2; ++round) {
    hash.update("a");
    hash.update("");
    hash.update("bc");
    EXPECT_EQ(hash.finish_hex(), sha256_hex("abc"));
  }
}

TEST(Sha256, ReadsFilesInPieces) {
  TemporaryFolder folder;
  std::string bytes;
  for (int i = 0; i < 2'500'000; ++i) bytes += static_cast<char>(i * 31);
  put(folder / "x", bytes);
  EXPECT_EQ(sha256_hex_of_file(folder / "x"), sha256_hex(bytes));
  put(folder / "x", "");
  EXPECT_EQ(sha256_hex_of_file(folder / "x"), sha256_hex(""));
}

std::string gzip(std::string_view bytes) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 9, Z_DEFLATED, 16 + MAX_WBITS, 9, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&stream, bytes.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

TEST(Gunzip, UnpacksWhatGzipPacked) {
  std::string bytes;
  for (int i = 0; i < 300'000; ++i) bytes += static_cast<char>((i % 1000) * i >> 3);
  EXPECT_EQ(gunzip(gzip(bytes), kPlenty), bytes);
  EXPECT_EQ(gunzip(gzip(""), 0), "");
  EXPECT_EQ(gunzip(gzip("one") + gzip("two"), kPlenty), "onetwo");
}

TEST(Gunzip, StopsABomb) {
  const std::string bomb = gzip(std::string(50'000'000, '\0'));
  EXPECT_LT(bomb.size(), 100'000u);
  EXPECT_THAT(error_of(Code::kExhausted, [&] { gunzip(bomb, kPlenty, "b.gz"); }), HasSubstr("b.gz: unpacks to more"));
  EXPECT_EQ(gunzip(gzip("12345"), 5), "12345");
  error_of(Code::kExhausted, [&] { gunzip(gzip("12345"), 4); });
}

TEST(Gunzip, RefusesDamage) {
  const std::string good = gzip(std::string(1000, 'x') + "tail");
  for (std::size_t size = 0; size < good.size(); ++size) {
    EXPECT_THAT(error_of(Code::kDataCorruption, [&] { gunzip(good.substr(0, size), kPlenty); }), HasSubstr("cut off"));
  }
  std::string flipped = good;
  flipped[flipped.size() - 6] ^= 1;
  EXPECT_THAT(error_of(Code::kDataCorruption, [&] { gunzip(flipped, kPlenty); }), HasSubstr("damaged"));
  EXPECT_THAT(error_of(Code::kDataCorruption, [&] { gunzip(good + "x", kPlenty); }), HasSubstr("other bytes follow"));
  EXPECT_THAT(error_of(Code::kDataCorruption, [&] { gunzip("plain text", kPlenty); }), HasSubstr("damaged"));
}

}  // namespace
}  // namespace recast
