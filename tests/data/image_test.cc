#include "recast/data/image.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <png.h>
#include <zlib.h>

#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "data/data_files.h"
#include "data/jpeg_files.h"
#include "format/expect_error.h"
#include "recast/format/files.h"

namespace recast {
namespace {

using namespace std::literals;
using ::testing::HasSubstr;

at::Tensor ramp(std::int64_t height, std::int64_t width) {
  return at::arange(3 * height * width).remainder(251).to(at::kByte).view({3, height, width});
}

// Adam7, which encode_png() does not write.
std::string interlaced_png(const at::Tensor& rgb) {
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  std::string out;
  png_set_write_fn(
      png, &out,
      [](png_structp p, png_bytep data, std::size_t n) {
        static_cast<std::string*>(png_get_io_ptr(p))->append(reinterpret_cast<char*>(data), n);
      },
      [](png_structp) {});
  const at::Tensor rows = rgb.permute({1, 2, 0}).contiguous();
  const auto height = static_cast<unsigned>(rows.size(0)), width = static_cast<unsigned>(rows.size(1));
  png_set_IHDR(png, info, width, height, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_ADAM7, PNG_COMPRESSION_TYPE_DEFAULT,
               PNG_FILTER_TYPE_DEFAULT);
  png_write_info(png, info);
  std::vector<png_bytep> lines;
  for (unsigned y = 0; y < height; ++y) lines.push_back(rows.data_ptr<std::uint8_t>() + std::size_t{3} * width * y);
  png_write_image(png, lines.data());
  png_write_end(png, nullptr);
  png_destroy_write_struct(&png, &info);
  return out;
}

// The same file with another size in its header, and the checksum of the header mended.
std::string with_png_size(std::string png, std::uint32_t width, std::uint32_t height) {
  for (int i = 0; i < 4; ++i) {
    png[16 + i] = static_cast<char>(width >> (24 - 8 * i));
    png[20 + i] = static_cast<char>(height >> (24 - 8 * i));
  }
  const auto crc = ::crc32(0, reinterpret_cast<const unsigned char*>(png.data()) + 12, 17);
  for (int i = 0; i < 4; ++i) png[29 + i] = static_cast<char>(crc >> (24 - 8 * i));
  return png;
}

TEST(DecodeImage, GivesBackWhatEncodePngWrote) {
  const auto image = ramp(13, 7);
  EXPECT_TRUE(at::equal(decode_image(encode_png(image), "x.png"), image));
  EXPECT_TRUE(at::equal(decode_image(encode_png(image.transpose(1, 2)), "x.png"), image.transpose(1, 2)));
}

TEST(DecodeImage, ReadsInterlacedPng) {
  const auto image = ramp(21, 18);
  EXPECT_TRUE(at::equal(decode_image(interlaced_png(image), "x.png"), image));
}

TEST(DecodeImage, GivesContiguousPlanesOfTheImagesSize) {
  const auto image = decode_image(encode_jpeg(31, 17), "x.jpg");
  EXPECT_EQ(image.sizes(), at::IntArrayRef({3, 17, 31}));
  EXPECT_EQ(image.scalar_type(), at::kByte);
  EXPECT_TRUE(image.is_contiguous());
}

TEST(DecodeImage, RefusesEveryTruncation) {
  for (const auto& bytes : {encode_jpeg(40, 40), encode_jpeg(40, 40, true), encode_png(ramp(40, 40))}) {
    for (std::size_t keep = 16; keep + 2 < bytes.size(); keep += 1 + bytes.size() / 97) {
      const auto message =
          error_of(Code::kDataCorruption, [&] { decode_image(std::string_view(bytes).substr(0, keep), "cut.img"); });
      EXPECT_THAT(message, HasSubstr("cut.img: damaged or truncated"));
    }
  }
}

TEST(DecodeImage, BytesBetweenAJpegsPixelsAndItsEndChangeNothing) {
  for (const bool progressive : {false, true}) {
    const std::string bytes = encode_jpeg(40, 40, progressive), end = bytes.substr(bytes.size() - 2);
    const std::string longer = bytes.substr(0, bytes.size() - 2) + "surplus" + end;
    EXPECT_TRUE(decode_image(longer, "x.jpg").equal(decode_image(bytes, "x.jpg"))) << progressive;
  }
}

TEST(DecodeImage, RefusesAProgressiveJpegWhoseLastScanIsNoLongerMarked) {
  std::string bytes = encode_jpeg(40, 40, true);
  bytes[bytes.rfind("\xff\xda") + 1] = '\0';
  EXPECT_THAT(error_of(Code::kDataCorruption, [&] { decode_image(bytes, "x.jpg"); }), HasSubstr("damaged"));
}

TEST(DecodeImage, SurvivesEveryFlippedByte) {
  for (const auto& bytes : {encode_jpeg(24, 24), encode_jpeg(24, 24, true), encode_png(ramp(24, 24))}) {
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      auto damaged = bytes;
      damaged[i] = static_cast<char>(damaged[i] ^ 0x55);
      try {
        EXPECT_EQ(decode_image(damaged, "x").size(0), 3);
      } catch (const Error& error) {
        EXPECT_NE(error.code(), Code::kInternal) << error.what();
      }
    }
  }
}

TEST(DecodeImage, RefusesAFlippedBitInPngPixels) {
  auto bytes = encode_png(ramp(24, 24));
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  error_of(Code::kDataCorruption, [&] { decode_image(bytes, "x.png"); });
}

TEST(DecodeImage, RefusesNothing) {
  EXPECT_THAT(error_of(Code::kDataCorruption, [] { decode_image("", "a/b.jpg"); }), HasSubstr("a/b.jpg: is empty"));
}

TEST(DecodeImage, RefusesFromTheHeaderWhatIsTooLarge) {
  const auto png = encode_png(ramp(8, 8));
  EXPECT_THAT(error_of(Code::kExhausted, [&] { decode_image(with_png_size(png, 20001, 1), "x"); }),
              HasSubstr("20001 x 1 pixels"));
  error_of(Code::kExhausted, [&] { decode_image(with_png_size(png, 10000, 5001), "x"); });
  auto jpeg = encode_jpeg(8, 8);
  const auto frame = jpeg.find("\xff\xc0");
  ASSERT_NE(frame, jpeg.npos);
  for (int i = 5; i < 9; ++i) jpeg[frame + i] = static_cast<char>(0xff);
  EXPECT_THAT(error_of(Code::kExhausted, [&] { decode_image(jpeg, "x"); }), HasSubstr("more than 20000 pixels a side"));
}

TEST(DecodeImage, NamesForeignFormats) {
  using namespace std::literals;
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"GIF89a....", "GIF"},
      {"BM......", "BMP"},
      {"II*\0\x08\0\0\0"s, "TIFF"},
      {"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"},
      {"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"},
      {"PK\x03\x04....", "zip"},
      {"hello", "no image that is known"},
  };
  for (const auto& [bytes, what] : cases) {
    EXPECT_THAT(error_of(Code::kUnsupported, [&] { decode_image(bytes, "photo.jpg"); }),
                testing::AllOf(HasSubstr("photo.jpg: holds "), HasSubstr(what)));
  }
}

TEST(DecodeImage, RefusesAJpegOfManyScans) {
  // A scan for each coefficient of each component is within the standard; each costs a walk over the image.
  std::vector<jpeg_scan_info> scans = {{3, {0, 1, 2, 0}, 0, 0, 0, 0}};
  for (int component = 0; component < 3; ++component) {
    for (int k = 1; k < 64; ++k) scans.push_back({1, {component, 0, 0, 0}, k, k, 0, 0});
  }
  EXPECT_THAT(error_of(Code::kExhausted, [&] { decode_image(encode_jpeg(16, 16, true, scans), "bomb.jpg"); }),
              HasSubstr("bomb.jpg: JPEG with too many scans (101, at most 100 "));
  scans.resize(100);
  EXPECT_EQ(decode_image(encode_jpeg(16, 16, true, scans), "x.jpg").size(1), 16);
}

std::string with_jpeg_size(std::string jpeg, std::string_view frame_marker, unsigned width, unsigned height) {
  const auto frame = jpeg.find(frame_marker);
  EXPECT_NE(frame, jpeg.npos);
  for (int i = 0; i < 2; ++i) {
    jpeg[frame + 5 + i] = static_cast<char>(height >> (8 - 8 * i));
    jpeg[frame + 7 + i] = static_cast<char>(width >> (8 - 8 * i));
  }
  return jpeg;
}

TEST(DecodeImage, RefusesALargeJpegOfFewerScans) {
  // A scan for each coefficient: the 64 of 32 million pixels are more than 2,000 million pixels, those of 1 million
  // not.
  std::vector<jpeg_scan_info> scans;
  for (int k = 0; k < 64; ++k) scans.push_back({1, {0, 0, 0, 0}, k, k, 0, 0});
  EXPECT_EQ(decode_image(encode_flat_jpeg(JCS_GRAYSCALE, 1000, 1000, true, scans), "x.jpg").size(1), 1000);
  const auto bytes = encode_flat_jpeg(JCS_GRAYSCALE, 5700, 5700, true, scans);
  const auto start = std::chrono::steady_clock::now();
  EXPECT_THAT(error_of(Code::kExhausted, [&] { decode_image(bytes, "x.jpg"); }),
              HasSubstr("x.jpg: JPEG with too many scans (62, at most 100 and 2000000000 pixels in all)"));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

TEST(DecodeImage, SaysWhichJpegsOfTheStandardItCannotRead) {
  const std::string usual = encode_jpeg(16, 16);
  const auto frame = usual.find("\xff\xc0");
  ASSERT_NE(frame, usual.npos);
  std::string twelve_bits = usual, lossless = usual;
  twelve_bits[frame + 4] = 12;
  lossless[frame + 1] = '\xc3';
  for (const auto& [bytes, what] : {std::pair{twelve_bits, "12"}, {lossless, "0xc3"}}) {
    EXPECT_THAT(error_of(Code::kUnsupported, [&] { decode_image(bytes, "scan.jpg"); }),
                testing::AllOf(HasSubstr("scan.jpg: "), HasSubstr(what)));
  }
}

TEST(DecodeImage, RefusesAJpegThatTakesTooMuchMemory) {
  // Progressive, four colours: libjpeg keeps two bytes for each of 4 x 49 million numbers, beside the planes.
  const auto bytes = with_jpeg_size(encode_flat_jpeg(JCS_CMYK, 16, 16, true), "\xff\xc2", 7000, 7000);
  EXPECT_THAT(error_of(Code::kExhausted, [&] { decode_image(bytes, "x.jpg"); }),
              HasSubstr("x.jpg: decoding the JPEG would take more than 512 MiB"));
}

TEST(DecodeImage, APngWhoseChunksUnpackToMuchIsReadInBoundedTime) {
  std::string zeros(64 << 20, '\0'), packed(1 << 20, '\0');
  uLongf size = packed.size();
  ASSERT_EQ(::compress2(reinterpret_cast<Bytef*>(packed.data()), &size, reinterpret_cast<const Bytef*>(zeros.data()),
                        zeros.size(), 9),
            Z_OK);
  packed.resize(size);
  const auto image = ramp(8, 8);
  auto png = encode_png(image);
  for (const std::string type : {"iCCP", "zTXt", "iTXt"}) {
    const auto head = "n\0\0"s + (type == "iTXt" ? "\1\0\0\0"s.substr(1) : ""s);
    for (int i = 0; i < 20; ++i) png.insert(33, png_chunk(type, head + packed));
  }
  const auto start = std::chrono::steady_clock::now();
  EXPECT_TRUE(at::equal(decode_image(png, "x.png"), image));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));
}

TEST(DecodeImage, RefusesAPngThatUnpacksToMoreThanItAnnounces) {
  const auto image = ramp(8, 8);
  std::string rows(1 << 20, '\0'), packed(1 << 16, '\0');
  uLongf size = packed.size();
  ASSERT_EQ(::compress2(reinterpret_cast<Bytef*>(packed.data()), &size, reinterpret_cast<const Bytef*>(rows.data()),
                        rows.size(), 9),
            Z_OK);
  packed.resize(size);
  const auto png = encode_png(image);
  const auto bomb = png.substr(0, 33) + png_chunk("IDAT", packed) + png_chunk("IEND", "");
  // Rows beyond the last are dropped by libpng: what matters is that they are not kept.
  EXPECT_EQ(decode_image(bomb, "x.png").numel(), image.numel());
}

TEST(DecodeImage, RefusesAnimatedWebpByName) {
  std::string animated = "RIFF\x24\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0\x07\0\0\x07\0\0ANIM\x06\0\0\0\0\0\0\0\0\0"s;
  EXPECT_THAT(error_of(Code::kUnsupported, [&] { decode_image(animated, "moving.webp"); }),
              HasSubstr("moving.webp: an animated WebP image"));
}

TEST(DecodeImage, RefusesWebpThatIsTooLargeOrDamaged) {
  // 16383 x 16383, lossless: a signature byte, then 14 bits for each side less one.
  const auto huge = "RIFF\x12\0\0\0WEBPVP8L\x06\0\0\0\x2f\xfe\xbf\xff\x0f\0"s;
  EXPECT_THAT(error_of(Code::kExhausted, [&] { decode_image(huge, "x"); }), HasSubstr("16383 x 16383 pixels"));
  for (const auto& bytes : {"RIFF\0\0\0\0WEBP"s, "RIFF\x24\0\0\0WEBPVP8 "s, "RIFF\x24\0\0\0WEBPVP8L....."s}) {
    EXPECT_THAT(error_of(Code::kDataCorruption, [&] { decode_image(bytes, "x"); }),
                HasSubstr("damaged or truncated WebP"));
  }
}

TEST(EncodePng, RefusesOtherShapes) {
  error_of(Code::kShapeMismatch, [] { encode_png(at::zeros({1, 4, 4}, at::kByte)); });
  error_of(Code::kShapeMismatch, [] { encode_png(at::zeros({3, 4, 4})); });
  error_of(Code::kShapeMismatch, [] { encode_png(at::zeros({3, 0, 4}, at::kByte)); });
}

TEST(DecodeImage, ReadsClipArtOfDebian) {
  const std::filesystem::path folder = "/usr/share/openclipart/png/animals";
  RECAST_NEED_PATH(folder);  // Debian package openclipart-png
  int count = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (entry.path().extension() != ".png" || ++count > 40) continue;
    const auto image = decode_image(read_file(entry.path(), kMaxImageBytes), entry.path().string());
    EXPECT_EQ(image.size(0), 3) << entry.path();
  }
  EXPECT_GT(count, 0);
}

}  // namespace
}  // namespace recast
