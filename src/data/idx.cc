// IDX files, as MNIST and Fashion-MNIST come: big-endian magic (0, 0, type, rank), one 32-bit size per dimension, data.
// Images are PREFIX-images-idx3-ubyte, labels PREFIX-labels-idx1-ubyte, each plain or with .gz.
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <optional>

#include "packed.h"
#include "recast/base/error.h"
#include "recast/data/picture.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"

namespace recast {
namespace {
namespace fs = std::filesystem;

// Some copies write a dot before "idx".
constexpr std::array<std::string_view, 2> kImages = {"-images-idx3-ubyte", "-images.idx3-ubyte"};
constexpr std::array<std::string_view, 2> kLabels = {"-labels-idx1-ubyte", "-labels.idx1-ubyte"};
constexpr unsigned char kUnsignedByte = 0x08;

std::string without_gz(std::string name) {
  if (name.ends_with(".gz")) name.resize(name.size() - 3);
  return name;
}

// "train" of "train-images-idx3-ubyte.gz"; nothing for other names.
std::optional<std::string> prefix_of(std::string_view file_name, const std::array<std::string_view, 2>& endings) {
  const auto name = without_gz(std::string(file_name));
  for (const auto ending : endings) {
    if (name.size() > ending.size() && name.ends_with(ending)) return name.substr(0, name.size() - ending.size());
  }
  return std::nullopt;
}

struct Idx {
  std::string bytes;
  std::vector<std::uint64_t> shape;
  std::size_t header_bytes() const { return 4 + 4 * shape.size(); }
};

Idx read_idx(const fs::path& file, std::size_t rank) {
  Idx idx{read_file(file, kMaxPackedBytes), {}};
  if (idx.bytes.starts_with("\x1f\x8b")) idx.bytes = gunzip(idx.bytes, kMaxPackedBytes, printable_path(file));
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(idx.bytes[i]); };
  if (idx.bytes.size() < 4 + 4 * rank) {
    fail(Code::kDataCorruption, "[data] {}: {} bytes are too few for an IDX header", printable_path(file),
         idx.bytes.size());
  }
  if (byte(0) != 0 || byte(1) != 0 || byte(2) != kUnsignedByte || byte(3) != rank) {
    fail(Code::kDataCorruption,
         "[data] {}: begins with {:02x} {:02x} {:02x} {:02x}, expected 00 00 08 {:02x} "
         "(IDX, unsigned bytes, {} dimensions)",
         printable_path(file), byte(0), byte(1), byte(2), byte(3), rank, rank);
  }
  std::uint64_t count = 1;  // cut at 2^32 after each step, so that the next product fits 64 bits
  for (std::size_t d = 0; d < rank; ++d) {
    std::uint64_t size = 0;
    for (std::size_t i = 0; i < 4; ++i) size = size << 8 | byte(4 + 4 * d + i);
    idx.shape.push_back(size);
    count = std::min(count * size, std::uint64_t{kMaxPackedBytes});
  }
  if (count == 0 || idx.bytes.size() != idx.header_bytes() + count) {
    fail(Code::kDataCorruption, "[data] {}: {} bytes after the header that announces {}: truncated?",
         printable_path(file), idx.bytes.size() - idx.header_bytes(), fmt::join(idx.shape, " x "));
  }
  return idx;
}

// The labels that lie beside an images file, whichever way they are written.
fs::path labels_beside(const fs::path& images) {
  const auto prefix = *prefix_of(images.filename().string(), kImages);
  for (const auto ending : kLabels) {
    for (const auto gz : {"", ".gz"}) {
      const auto file = images.parent_path() / (prefix + std::string(ending) + gz);
      if (std::error_code error; fs::exists(file, error)) return file;
    }
  }
  fail(Code::kNotFound, "[data] {}: no labels beside it, expected {}{}[.gz]", printable_path(images), printable(prefix),
       kLabels.front());
}

void add_pair(PackedSource& source, const fs::path& images, Given given) {
  const auto labels_file = labels_beside(images);
  Idx pixels = read_idx(images, 3);
  const Idx labels = read_idx(labels_file, 1);
  const auto count = pixels.shape[0], height = pixels.shape[1], width = pixels.shape[2];
  if (labels.shape[0] != count) {
    fail(Code::kDataCorruption, "[data] {}: {} labels for the {} images of {}", printable_path(labels_file),
         labels.shape[0], count, printable_path(images));
  }
  if (height > kMaxImageSidePx || width > kMaxImageSidePx || height * width > kMaxImagePixels) {
    fail(Code::kExhausted, "[data] {}: images of {} x {} pixels are too large", printable_path(images), width, height);
  }
  std::vector<std::string> names;
  names.reserve(count);
  for (const char label : std::string_view(labels.bytes).substr(labels.header_bytes())) {
    names.push_back(std::to_string(static_cast<unsigned char>(label)));
  }
  const auto header = pixels.header_bytes();
  source.add({std::move(pixels.bytes), count, header, height * width, 1, static_cast<std::int64_t>(height),
              static_cast<std::int64_t>(width)},
             without_gz(images.filename().string()), names, given);
}

struct Pair {
  fs::path images;
  std::string prefix;
};

std::vector<Pair> pairs_in(const fs::path& folder) {
  std::vector<Pair> pairs;  // sorted, so a plain file comes before its .gz, which is then left out
  for (const auto& name : names_in(folder)) {
    const auto prefix = prefix_of(name, kImages);
    if (prefix && (pairs.empty() || pairs.back().prefix != *prefix)) pairs.push_back({folder / name, *prefix});
  }
  return pairs;
}

std::unique_ptr<RecordSource> open_pairs(const fs::path& folder) {
  const auto pairs = pairs_in(folder);
  std::vector<const Pair*> train, test;
  for (const auto& pair : pairs) {
    const bool is_test = pair.prefix.ends_with("t10k") || pair.prefix.ends_with("test");
    (is_test ? test : train).push_back(&pair);
  }
  if (train.size() != 1 || test.size() > 1) {
    std::string found;
    for (const auto& pair : pairs) found += (found.empty() ? "" : ", ") + pair.images.filename().string();
    fail(Code::kUnsupported,
         "[data] {}: expected one IDX file of training images and at most one for test (t10k-), "
         "found: {}; name the one that is meant",
         printable_path(folder), printable(found, 300));
  }
  auto source = std::make_unique<PackedSource>("idx");
  add_pair(*source, train[0]->images, test.empty() ? Given::kNone : Given::kTrain);
  if (!test.empty()) add_pair(*source, test[0]->images, Given::kTest);
  return source;
}

}  // namespace

bool is_idx_name(std::string_view file_name) {
  return prefix_of(file_name, kImages).has_value() || prefix_of(file_name, kLabels).has_value();
}

bool holds_idx(const fs::path& folder) { return !pairs_in(folder).empty(); }

std::unique_ptr<RecordSource> open_idx(const fs::path& folder_or_file) {
  if (fs::is_directory(folder_or_file)) return open_pairs(folder_or_file);
  if (!prefix_of(folder_or_file.filename().string(), kImages)) {
    fail(Code::kUnsupported, "[data] {}: holds labels; give the file of images (*{})", printable_path(folder_or_file),
         kImages.front());
  }
  auto source = std::make_unique<PackedSource>("idx");
  add_pair(*source, folder_or_file, Given::kNone);
  return source;
}

}  // namespace recast
