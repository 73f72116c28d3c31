// CIFAR-10 and CIFAR-100, binary version: records of one label byte (CIFAR-100: coarse, then fine) and 3 planes of
// 32 x 32 bytes. https://www.cs.toronto.edu/~kriz/cifar.html
#include <algorithm>
#include <optional>
#include <sstream>

#include "packed.h"
#include "recast/base/error.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"

namespace recast {
namespace {
namespace fs = std::filesystem;

constexpr std::size_t kPixelBytes = 3 * 32 * 32;

struct Layout {
  std::string_view kind, names_file;
  std::size_t classes, label_bytes;
  std::string_view superclass_names_file;  // empty: there are none
  std::size_t record_bytes() const { return label_bytes + kPixelBytes; }
};

constexpr std::size_t kSuperclasses = 20;
constexpr Layout kCifar10{"cifar10", "batches.meta.txt", 10, 1, ""};
constexpr Layout kCifar100{"cifar100", "fine_label_names.txt", 100, 2, "coarse_label_names.txt"};

bool is_cifar10_train(std::string_view name) { return name.starts_with("data_batch_") && name.ends_with(".bin"); }

// The official names, or plain numbers where the file of names is not there.
std::vector<std::string> names_of(const fs::path& file, std::size_t count) {
  std::vector<std::string> names;
  if (std::error_code error; !fs::exists(file, error)) {
    for (std::size_t i = 0; i < count; ++i) names.push_back(std::to_string(i));
    return names;
  }
  std::istringstream lines(read_file(file, 1 << 20));
  for (std::string line; std::getline(lines, line);) {
    if (line.ends_with('\r')) line.pop_back();
    if (!line.empty()) names.push_back(line);
  }
  auto sorted = names;
  std::sort(sorted.begin(), sorted.end());
  const bool distinct = std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end();
  if (names.size() != count || !distinct || !std::all_of(names.begin(), names.end(), is_utf8)) {
    fail(Code::kDataCorruption, "[data] {}: {} class names, expected {} different ones in UTF-8", printable_path(file),
         names.size(), count);
  }
  return names;
}

/// Images with, in CIFAR-100, the superclass of each class.
class CifarSource final : public PackedSource {
 public:
  CifarSource(const Layout& layout, const fs::path& folder)
      : PackedSource(layout.kind), layout(layout), classes(names_of(folder / layout.names_file, layout.classes)) {
    if (!layout.superclass_names_file.empty())
      superclass_names_ = names_of(folder / layout.superclass_names_file, kSuperclasses);
    of_class_.resize(layout.classes);
  }

  void add_label(std::size_t coarse, std::size_t fine) {
    of_class_[fine].resize(kSuperclasses);
    if (coarse < kSuperclasses) of_class_[fine][coarse] = true;
  }

  std::map<std::string, std::vector<std::string>> superclasses() const override {
    std::map<std::string, std::vector<std::string>> out;
    for (std::size_t fine = 0; fine < of_class_.size() && !superclass_names_.empty(); ++fine) {
      const auto found = std::count(of_class_[fine].begin(), of_class_[fine].end(), true);
      if (found > 1)
        fail(Code::kDataCorruption, "[data] class '{}' has images of {} superclasses, expected one",
             printable(classes[fine]), found);
      const auto place = std::find(of_class_[fine].begin(), of_class_[fine].end(), true) - of_class_[fine].begin();
      if (found == 1) out[superclass_names_[static_cast<std::size_t>(place)]].push_back(classes[fine]);
    }
    return out;
  }

  const Layout& layout;
  const std::vector<std::string> classes;

 private:
  std::vector<std::string> superclass_names_;
  std::vector<std::vector<bool>> of_class_;  // [class][superclass]: some image says so
};

void add_file(CifarSource& source, const fs::path& file, Given given) {
  const Layout& layout = source.layout;
  const std::vector<std::string>& names = source.classes;
  std::string bytes = read_file(file, kMaxPackedBytes);
  const std::size_t record = layout.record_bytes(), count = bytes.size() / record;
  if (bytes.empty() || bytes.size() % record != 0) {
    fail(Code::kDataCorruption, "[data] {}: {} bytes, not a whole number of {} records of {} bytes: truncated?",
         printable_path(file), bytes.size(), layout.kind, record);
  }
  std::vector<std::string> labels;
  labels.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    const auto label = static_cast<unsigned char>(bytes[i * record + layout.label_bytes - 1]);
    if (label >= names.size()) {
      fail(Code::kDataCorruption, "[data] {}: record {} has label {}, {} has 0 to {}", printable_path(file), i, label,
           layout.kind, names.size() - 1);
    }
    labels.push_back(names[label]);
    if (layout.label_bytes == 2) source.add_label(static_cast<unsigned char>(bytes[i * record]), label);
  }
  source.add({std::move(bytes), count, layout.label_bytes, record, 3, 32, 32}, file.filename().string(), labels, given);
}

// Sizes divide by one record length only, unless there are thousands of records more than in CIFAR; then names decide.
const Layout& layout_of(const fs::path& file) {
  const auto size = fs::file_size(file);
  const bool ten = size % kCifar10.record_bytes() == 0, hundred = size % kCifar100.record_bytes() == 0;
  if (ten != hundred) return ten ? kCifar10 : kCifar100;
  const auto name = file.filename().string();
  return name == "train.bin" || name == "test.bin" ? kCifar100 : kCifar10;
}

std::unique_ptr<RecordSource> open_file(const fs::path& file) {
  const Layout& layout = layout_of(file);
  auto source = std::make_unique<CifarSource>(layout, file.parent_path());
  add_file(*source, file, Given::kNone);
  return source;
}

std::unique_ptr<RecordSource> open_files(const fs::path& folder) {
  const auto names = names_in(folder);
  const auto has = [&](std::string_view name) { return std::find(names.begin(), names.end(), name) != names.end(); };
  const bool ten = has("test_batch.bin") || std::any_of(names.begin(), names.end(), is_cifar10_train);
  if (ten && (has("train.bin") || has("test.bin"))) {
    fail(Code::kUnsupported, "[data] {}: holds files of CIFAR-10 and of CIFAR-100; give one file, or a folder each",
         printable_path(folder));
  }
  const Layout& layout = ten ? kCifar10 : kCifar100;
  const std::string_view test = ten ? "test_batch.bin" : "test.bin";
  auto source = std::make_unique<CifarSource>(layout, folder);
  for (const auto& name : names) {
    const bool train = ten ? is_cifar10_train(name) : name == "train.bin";
    if (train) add_file(*source, folder / name, has(test) ? Given::kTrain : Given::kNone);
    if (name == test) add_file(*source, folder / name, Given::kTest);
  }
  return source;
}

}  // namespace

bool holds_cifar(const fs::path& folder) {
  const auto names = names_in(folder);
  return std::any_of(names.begin(), names.end(), [](const std::string& name) {
    return is_cifar10_train(name) || name == "test_batch.bin" || name == "train.bin" || name == "test.bin";
  });
}

std::unique_ptr<RecordSource> open_cifar(const fs::path& folder_or_file) {
  return fs::is_directory(folder_or_file) ? open_files(folder_or_file) : open_file(folder_or_file);
}

}  // namespace recast
