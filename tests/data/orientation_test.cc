// What EXIF orientation does, bit by bit against Pillow in parity_test.cc; here: that no EXIF data can do harm.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>

#include "data/data_files.h"
#include "format/expect_error.h"
#include "recast/data/image.h"

namespace recast {
namespace {

using namespace std::literals;

std::string big_endian(std::uint32_t value, int bytes) {
  std::string out;
  while (bytes-- > 0) out += static_cast<char>(value >> (8 * bytes));
  return out;
}

// One directory with the one entry.
std::string exif(std::uint32_t orientation, std::uint32_t type = 3, std::uint32_t count = 1, std::uint32_t entries = 1,
                 std::uint32_t directory = 8) {
  const auto value = type == 3 ? big_endian(orientation, 2) + "\0\0"s : big_endian(orientation, 4);
  return "MM\0*"s + big_endian(directory, 4) + big_endian(entries, 2) + "\x01\x12"s + big_endian(type, 2) +
         big_endian(count, 4) + value + "\0\0\0\0"s;
}

std::string png_with_exif(const at::Tensor& image, const std::string& data) {
  const auto png = encode_png(image);
  return png.substr(0, 33) + png_chunk("eXIf", data) + png.substr(33);
}

const at::Tensor kImage = at::arange(3 * 2 * 5).to(at::kByte).view({3, 2, 5});

TEST(Orientation, TurnsAPictureOfPngWithoutLoss) {
  EXPECT_TRUE(at::equal(decode_image(png_with_exif(kImage, exif(1)), "x"), kImage));
  EXPECT_TRUE(at::equal(decode_image(png_with_exif(kImage, exif(3)), "x"), kImage.flip({1, 2})));
  EXPECT_TRUE(at::equal(decode_image(png_with_exif(kImage, exif(5)), "x"), kImage.transpose(1, 2)));
  EXPECT_TRUE(at::equal(decode_image(png_with_exif(kImage, exif(6, 4)), "x"), kImage.transpose(1, 2).flip({2})));
}

TEST(Orientation, TurnsPicturesLargerThanATile) {
  const auto image = at::arange(3 * 130 * 201).remainder(253).to(at::kByte).view({3, 130, 201});
  EXPECT_TRUE(at::equal(decode_image(png_with_exif(image, exif(8)), "x"), image.transpose(1, 2).flip({1})));
  EXPECT_TRUE(at::equal(decode_image(png_with_exif(image, exif(7)), "x"), image.transpose(1, 2).flip({1, 2})));
}

TEST(Orientation, DamagedExifTurnsNothing) {
  for (const auto& data :
       {""s, "MM"s, "MM\0*"s, exif(0), exif(9), exif(65535), exif(6, 2), exif(6, 3, 2), exif(6, 3, 0), exif(6, 3, 1, 0),
        exif(6, 3, 1, 1, 0xFFFFFFFF), exif(6, 3, 1, 65535, 0xFFFFFF00), exif(6, 99), exif(6, 3, 1, 65535).substr(0, 12),
        exif(6).substr(0, 18), "XX\0*"s}) {
    EXPECT_TRUE(at::equal(decode_image(png_with_exif(kImage, data), "x"), kImage));
  }
  auto damaged = png_with_exif(kImage, exif(6));
  damaged[damaged.find("eXIf") + 20] ^= 1;  // its checksum no longer fits
  EXPECT_TRUE(at::equal(decode_image(damaged, "x"), kImage));
}

TEST(Orientation, EveryFlippedBitOfExifLeavesAPicture) {
  const auto data = exif(6);
  for (std::size_t bit = 0; bit < 8 * data.size(); ++bit) {
    auto flipped = data;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    EXPECT_EQ(decode_image(png_with_exif(kImage, flipped), "x").numel(), kImage.numel());
  }
}

}  // namespace
}  // namespace recast
