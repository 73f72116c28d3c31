// A pair of IDX files, plain or gzip-compressed. The input: two bytes with the length of the labels file, that file,
// the images file.
#include "data/source.h"
#include "recast/format/files.h"
#include "scratch_folder.h"

using namespace recast;

namespace {

constexpr std::size_t kImagesHeader = 16;

std::string plain(std::string_view file) {
  return file.starts_with("\x1f\x8b") ? gunzip(file, std::uint64_t{1} << 32) : std::string(file);
}

std::uint64_t big_endian(std::string_view bytes, std::size_t at) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  return value;
}

}  // namespace

RECAST_FUZZ_TARGET(idx) {
  static const fuzz::ScratchFolder folder;
  if (bytes.size() < 2) return;
  const std::size_t stated = static_cast<unsigned char>(bytes[0]) << 8 | static_cast<unsigned char>(bytes[1]);
  const std::string_view labels = bytes.substr(2, stated);
  const std::string_view images = bytes.substr(2 + labels.size());
  folder.put("x-labels-idx1-ubyte", labels);
  const auto source = fuzz::accepted([&] { return open_idx(folder.put("x-images-idx3-ubyte", images)); });
  if (!source) return;
  const std::string file = plain(images), label_file = plain(labels);
  const std::vector<Record>& records = (*source)->records();
  const std::uint64_t count = big_endian(file, 4), height = big_endian(file, 8), width = big_endian(file, 12);
  RECAST_FUZZ_CHECK(records.size() == count && file.size() == kImagesHeader + count * height * width);
  for (std::size_t i = 0; i < records.size(); i += 1 + records.size() / 16) {
    const Picture picture = (*source)->image(i);
    RECAST_FUZZ_CHECK(picture.height == static_cast<std::int64_t>(height));
    RECAST_FUZZ_CHECK(picture.width == static_cast<std::int64_t>(width));
    const auto pixels = std::string_view(file).substr(kImagesHeader + i * height * width, height * width);
    for (std::size_t plane = 0; plane < 3; ++plane) {
      const auto* begin = reinterpret_cast<const char*>(picture.planes.get()) + plane * pixels.size();
      RECAST_FUZZ_CHECK(std::string_view(begin, pixels.size()) == pixels);
    }
    RECAST_FUZZ_CHECK(records[i].class_name == std::to_string(static_cast<unsigned char>(label_file[8 + i])));
  }
}
