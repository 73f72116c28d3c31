// A folder of class folders, or of train/, val/ (validation/) and test/ that each hold class folders.
#include <algorithm>
#include <array>
#include <optional>

#include "listing.h"
#include "recast/base/error.h"
#include "recast/base/lower_case.h"
#include "recast/data/dataset.h"
#include "recast/data/left_out.h"
#include "recast/format/printable.h"
#include "source.h"

namespace recast {
namespace {
namespace fs = std::filesystem;

constexpr std::array<std::string_view, 4> kRead = {".jpg", ".jpeg", ".png", ".webp"};
// Left out in silence, these would shrink a class without anyone noticing.
constexpr std::array<std::string_view, 6> kRefused = {".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic"};

std::string ending_of(std::string_view name) {
  const auto dot = name.rfind('.');
  return dot == name.npos ? "" : lower_case(name.substr(dot));
}

template <std::size_t N>
bool is_one_of(const std::string& ending, const std::array<std::string_view, N>& endings) {
  return std::find(endings.begin(), endings.end(), ending) != endings.end();
}

void refuse_dead_link(const ListedEntry& entry, const fs::path& folder) {
  if (entry.type != fs::file_type::not_found) return;
  fail(Code::kNotFound, "[data] {}: a link that leads nowhere; mend or remove it", printable_path(folder / entry.name));
}

std::vector<std::string> folders_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (auto& entry : list_folder(folder).entries) {
    refuse_dead_link(entry, folder);
    if (entry.type == fs::file_type::directory) names.push_back(std::move(entry.name));
  }
  return names;
}

bool has_images(const fs::path& folder) {
  const auto listing = list_folder(folder);
  return std::any_of(listing.entries.begin(), listing.entries.end(), [](const ListedEntry& entry) {
    return entry.type == fs::file_type::regular && is_one_of(ending_of(entry.name), kRead);
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
  StoredImage stored(std::size_t record) const override { return {root_ / records_[record].id, {}}; }

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
    const auto names = folders_in(root_);
    if (!train || !(test || val || validation || names.size() == 1)) {
      refuse_misspelt_splits(names);
      return false;
    }
    if (val && validation) {
      fail(Code::kUnsupported, "[data] {}: holds both val/ and validation/; keep one of them", printable_path(root_));
    }
    add_classes("train", Given::kTrain);
    if (test) add_classes("test", Given::kTest);
    if (val || validation) add_classes(val ? "val" : "validation", Given::kValidation);
    return true;
  }

  /// Train/ and Test/ would be two classes, and what is meant to test with would be learned from.
  void refuse_misspelt_splits(const std::vector<std::string>& names) const {
    const auto spelling_of = [&](std::string_view split) {
      const auto found = std::find_if(names.begin(), names.end(), [&](const std::string& name) {
        return lower_case(name) == split && is_split_folder(name);
      });
      return found == names.end() ? std::string() : *found;
    };
    const std::string train = spelling_of("train");
    for (const char* split : {"test", "val", "validation"}) {
      const std::string other = spelling_of(split);
      if (train.empty() || other.empty()) continue;
      fail(Code::kUnsupported,
           "[data] {}: '{}' and '{}' hold class folders; as splits they must be called 'train' and '{}' in lower case",
           printable_path(root_), printable(train), printable(other), split);
    }
  }

  void add_classes(const std::string& below, Given given) {
    std::vector<std::string> empty;
    const std::size_t before = records_.size();
    const auto names = folders_in(root_ / below);
    for (const auto& name : names) {
      const std::size_t start = records_.size();
      const std::string id = below.empty() ? name : below + "/" + name;
      add_images(id, name, given);
      if (records_.size() == start) empty.push_back(id);
    }
    if (!empty.empty() && records_.size() > before) {
      fail(Code::kUnsupported,
           "[data] {}: class folder '{}' holds no image (endings read: .jpg, .jpeg, .png, .webp); "
           "fill or remove it",
           printable_path(root_), printable(empty.front()));
    }
  }

  void add_images(const std::string& below, const std::string& class_name, Given given) {
    const fs::path folder = root_ / below;
    const auto listing = list_folder(folder);
    enter(listing, folder);
    for (const auto& entry : listing.entries) {
      refuse_dead_link(entry, folder);
      const std::string id = below + "/" + entry.name;
      if (entry.type == fs::file_type::directory) add_images(id, class_name, given);
      if (entry.type == fs::file_type::regular) add_file(id, entry.name, class_name, given);
    }
    open_.pop_back();
  }

  void enter(const Listing& listing, const fs::path& folder) {
    if (std::find(open_.begin(), open_.end(), listing.folder) != open_.end()) {
      fail(Code::kUnsupported, "[data] {}: a link that leads back to {}, which would never end; remove it",
           printable_path(folder), printable_path(fs::canonical(folder)));
    }
    open_.push_back(listing.folder);
  }

  void add_file(const std::string& id, const std::string& name, const std::string& class_name, Given given) {
    const auto ending = ending_of(name);
    if (is_one_of(ending, kRefused)) {
      fail(Code::kUnsupported, "[data] {}: {} images are not read; convert to PNG, JPEG or WebP, or move them away",
           printable_path(root_ / id), ending.substr(1));
    }
    if (!is_one_of(ending, kRead)) return;
    if (!is_utf8(id))
      fail(Code::kUnsupported, "[data] {}: the name is not UTF-8; rename it", printable_path(root_ / id));
    records_.push_back({id, class_name, given});
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
         printable_path(root_), hint);
  }

  const fs::path root_;
  std::vector<Listing::Identity> open_;  // the folders that we are inside of
};

}  // namespace

LeftOut images_beside_classes(const Dataset& dataset) {
  LeftOut out;
  if (dataset.kind() != "folder") return out;
  try {
    for (const ListedEntry& entry : list_folder(dataset.path()).entries) {
      if (entry.type != fs::file_type::regular || !is_one_of(ending_of(entry.name), kRead)) continue;
      if (out.count++ == 0) out.first = entry.name;
    }
  } catch (const fs::filesystem_error&) {
    return {};  // whoever opens its images says why
  }
  return out;
}

std::string warning_of(const LeftOut& left_out) {
  if (left_out.count == 0) return "";
  return fmt::format(
      "{} {} directly in the data folder, beside its class folders, and {} left out: {}; put those of a class into its "
      "folder",
      left_out.count, left_out.count == 1 ? "image lies" : "images lie", left_out.count == 1 ? "is" : "are",
      printable(left_out.first, 200));
}

std::unique_ptr<RecordSource> open_folder(const fs::path& root) { return std::make_unique<FolderSource>(root); }

}  // namespace recast
