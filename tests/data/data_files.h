#pragma once
#include <ATen/ATen.h>
#include <zlib.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "format/python_tool.h"
#include "recast/data/image.h"

namespace recast {

/// Writes `bytes`, and the folders above them.
inline void write_bytes(const std::filesystem::path& file, std::string_view bytes) {
  std::filesystem::create_directories(file.parent_path());
  std::ofstream(file, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

/// A PNG of one grey.
inline std::string plain_png(int grey, std::int64_t height = 4, std::int64_t width = 6) {
  return encode_png(at::full({3, height, width}, grey, at::kByte));
}

/// A chunk with the checksum that fits.
inline std::string png_chunk(const std::string& type, const std::string& body) {
  const auto number = [](std::uint64_t value) {
    std::string out;
    for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift);
    return out;
  };
  const std::string typed = type + body;
  const auto sum = ::crc32(0, reinterpret_cast<const unsigned char*>(typed.data()), static_cast<uInt>(typed.size()));
  return number(body.size()) + typed + number(sum);
}

/// FOLDER/0.png, 1.png, ...: `count` images, each with a grey of its own.
inline void write_images(const std::filesystem::path& folder, int count) {
  std::filesystem::create_directories(folder);
  for (int i = 0; i < count; ++i) write_bytes(folder / (std::to_string(i) + ".png"), plain_png(i % 256));
}

/// Where the real data lies: $RECAST_SHARED, or `shared` beside the checkout.
inline std::filesystem::path shared_data() {
  const char* chosen = std::getenv("RECAST_SHARED");
  return std::filesystem::path(chosen != nullptr ? chosen : RECAST_SOURCE_DIR "/../shared") / "data";
}

}  // namespace recast

/// Skips with the reason where `path` is missing. On CI, where the shared folder is there, that is a failure.
#define RECAST_NEED_PATH(path)                                                                                    \
  if (!std::filesystem::exists(path)) {                                                                           \
    if (::recast::on_ci() && std::filesystem::exists(::recast::shared_data())) FAIL() << (path) << " is missing"; \
    GTEST_SKIP() << (path) << " is missing";                                                                      \
  }                                                                                                               \
  static_assert(true)
