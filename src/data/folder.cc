// A folder of class folders, or of train/, val/ (validation/) and test/ that each hold class folders.
#include <algorithm>
#include <array>
#include <optional>

#include "recast/base/error.h"
#include "recast/format/printable.h"
#include "source.h"

namespace recast {
namespace {
namespace fs = std::filesystem;

constexpr std::array<std::string_view, 4> kRead = {".jpg", ".jpeg", ".png", ".webp"};
// Left out in silence, these would shrink a class without anyone noticing.
constexpr std::array<std::string_view, 6> kRefused = {".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic"};

std::string shown(const fs::path& path) { return printable(path.string(), 300); }

template <std::size_t N>
bool ends_in(const fs::path& path, const std::array<std::string_view, N>& endings) {
  return std::find(endings.begin(), endings.end(), lower_case(path.extension().string())) != endings.end();
}

// Links are followed, so a kind is that of the target.
fs::file_type kind_of(const fs::path& path) {
  std::error_code error;
  const auto status = fs::status(path, error);
  if (status.type() == fs::file_type::none || status.type() == fs::file_type::not_found) {
    fail(Code::kNotFound, "[data] {}: a link that leads nowhere; mend or remove it", shown(path));
  }
  return status.type();
}

std::vector<std::string> folders_in(const fs::path& folder) {
  auto names = names_in(folder);
  std::erase_if(names, [&](const std::string& name) { return kind_of(folder / name) != fs::file_type::directory; });
  return names;
}

bool has_images(const fs::path& folder) {
  const auto names = names_in(folder);
  return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    return ends_in(name, kRead) && kind_of(folder / name) == fs::file_type::regular;
  });
}

class FolderSource final : public RecordSource {
 public:
  explicit FolderSource(fs::path root) : root_(std::move(root)) {
    if (!add_own_splits()) add_classes({}, Given::kNone);
    if (records_.empty()) fail_without_images();
    std::sort(records_.begin(), records_.end(), [](const Record& a, const Record& b) { return a.id < b.id; });
  }

  std::string_view kind() const override { return "folder"; }
  Picture image(std::size_t record) const override { return read_image(root_ / records_[record].id); }

 private:
  // A class may well be called "train" (and hold images of trains): split folders hold class folders, not images.
  bool is_split_folder(const std::string& name) const {
    const auto folder = root_ / name;
    std::error_code error;
    return fs::is_directory(folder, error) && !has_images(folder) && !folders_in(folder).empty();
  }

  bool add_own_splits() {
    const bool train = is_split_folder("train"), test = is_split_folder("test");
    const bool val = is_split_folder("val"), validation = is_split_folder("validation");
    if (!train || !(test || val || validation || folders_in(root_).size() == 1)) return false;
    if (val && validation) {
      fail(Code::kUnsupported, "[data] {}: holds both val/ and validation/; keep one of them", shown(root_));
    }
    add_classes("train", Given::kTrain);
    if (test) add_classes("test", Given::kTest);
    if (val || validation) add_classes(val ? "val" : "validation", Given::kValidation);
    return true;
  }

  void add_classes(const fs::path& below, Given given) {
    std::vector<std::string> empty;
    const std::size_t before = records_.size();
    const auto names = folders_in(root_ / below);
    for (const auto& name : names) {
      const std::size_t start = records_.size();
      add_images(below / name, name, given);
      if (records_.size() == start) empty.push_back((below / name).string());
    }
    if (!empty.empty() && records_.size() > before) {
      fail(Code::kUnsupported,
           "[data] {}: class folder '{}' holds no image (endings read: .jpg, .jpeg, .png, .webp); "
           "fill or remove it",
           shown(root_), printable(empty.front()));
    }
  }

  void add_images(const fs::path& below, const std::string& class_name, Given given) {
    const fs::path folder = root_ / below;
    enter(folder);
    for (const auto& name : names_in(folder)) {
      const auto type = kind_of(folder / name);
      if (type == fs::file_type::directory) add_images(below / name, class_name, given);
      if (type == fs::file_type::regular) add_file(below / name, class_name, given);
    }
    open_.pop_back();
  }

  void enter(const fs::path& folder) {
    auto real = fs::canonical(folder);
    if (std::find(open_.begin(), open_.end(), real) != open_.end()) {
      fail(Code::kUnsupported, "[data] {}: a link that leads back to {}, which would never end; remove it",
           shown(folder), shown(real));
    }
    open_.push_back(std::move(real));
  }

  void add_file(const fs::path& below, const std::string& class_name, Given given) {
    if (ends_in(below, kRefused)) {
      fail(Code::kUnsupported, "[data] {}: {} images are not read; convert to PNG, JPEG or WebP, or move them away",
           shown(root_ / below), lower_case(below.extension().string()).substr(1));
    }
    if (!ends_in(below, kRead)) return;
    auto id = below.generic_string();
    if (!is_utf8(id)) fail(Code::kUnsupported, "[data] {}: the name is not UTF-8; rename it", shown(root_ / below));
    records_.push_back({std::move(id), class_name, given});
  }

  [[noreturn]] void fail_without_images() const {
    std::string hint;
    if (has_images(root_)) hint = "; images lie directly in it: put those of each class in a folder of their own";
    for (const auto& name : names_in(root_)) {
      if (name.ends_with(".csv")) hint = fmt::format("; it holds {}: give that file as the data", printable(name));
    }
    fail(Code::kUnsupported,
         "[data] {}: no images found; expected CLASS/IMAGE below it (endings read: .jpg, .jpeg, "
         ".png, .webp), CIFAR binary or IDX files{}",
         shown(root_), hint);
  }

  const fs::path root_;
  std::vector<fs::path> open_;  // the real folders that we are inside of
};

}  // namespace

std::unique_ptr<RecordSource> open_folder(const fs::path& root) { return std::make_unique<FolderSource>(root); }

}  // namespace recast
