#include "correction_folder.h"

#include <system_error>

#include "image_kind.h"
#include "public_error.h"
#include "recast/base/error.h"
#include "recast/data/picture.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"
#include "recast/format/settled_path.h"

namespace recast {
namespace {
namespace fs = std::filesystem;

constexpr std::size_t kMostLabelBytes = 200;  // a file's name may have 255
constexpr std::size_t kDigestDigits = 32;
constexpr const char* kSplit = "train";

[[noreturn]] void fail_writing(const fs::path& path, const std::error_code& error) {
  fail(Code::kUnavailable, "[corrections] {}: {}", printable_path(path), error.message());
}

/// One segment of a path, which `learn` takes for the name of a class.
void check_label(const std::string& label) {
  const auto refuse = [&](std::string_view what) {
    fail(Code::kInvalidArgument, "[corrections] label '{}': {}", printable(label), what);
  };
  if (label.empty()) refuse("is empty");
  if (label.size() > kMostLabelBytes) refuse("has more than 200 bytes");
  if (printable(label, label.size() + 1) != label) refuse("holds control characters, or is not UTF-8");
  if (label.find_first_of("/\\") != label.npos) refuse("holds a slash or backslash, so that it can name no folder");
  if (label.front() == '.') refuse("begins with a dot, so that its folder would be hidden");
  if (label.front() == ' ' || label.back() == ' ') refuse("begins or ends with a space");
}

/// A base that is alone may be called anything; a folder of images is not hidden.
std::string visible(std::string base) {
  if (base.starts_with('.')) base.front() = '_';
  return base;
}

/// `parent`/`name`, made for its owner alone where it is absent.
fs::path folder_in(const fs::path& parent, const std::string& name) {
  fs::path folder = parent / name;
  std::error_code error;
  if (fs::create_directory(folder, error)) {
    fs::permissions(folder, fs::perms::owner_all, error);
    if (const int failed = flush_folder(parent)) error = {failed, std::generic_category()};
  }
  if (error) fail_writing(folder, error);
  if (fs::symlink_status(folder, error).type() != fs::file_type::directory)
    fail(Code::kUnavailable, "[corrections] {} is no folder: take it away", printable_path(folder));
  return folder;
}

/// `learn` takes no class without images.
void remove_if_empty(const fs::path& label) {
  std::error_code ignored;
  fs::remove(label, ignored);
}

void move(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error) fail_writing(to, error);
  for (const fs::path& changed : {to.parent_path(), from.parent_path()})
    if (const int failed = flush_folder(changed)) fail_writing(changed, {failed, std::generic_category()});
  remove_if_empty(from.parent_path());
}

/// What a look through the folder found.
struct Survey {
  std::int64_t images = 0, bytes = 0;  // in all
  std::int64_t of_task = 0;
  fs::path same;  // the image, under whichever label of the task
};

/// Folders below `folder`; links are not followed, nor is `folder` if it is one.
std::vector<fs::path> folders_in(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code error;
  if (fs::symlink_status(folder, error).type() != fs::file_type::directory) return found;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error))
    if (std::error_code ignored; at->symlink_status(ignored).type() == fs::file_type::directory)
      found.push_back(at->path());
  return found;
}

void count_images(const fs::path& label, bool of_task, const std::string& file, Survey& survey) {
  std::error_code error;
  for (fs::directory_iterator at(label, error), end; !error && at != end; at.increment(error)) {
    std::error_code gone;
    const auto bytes = at->file_size(gone);
    if (gone) continue;
    ++survey.images;
    survey.bytes += static_cast<std::int64_t>(bytes);
    survey.of_task += of_task;
    if (of_task && at->path().filename() == file) survey.same = at->path();
  }
}

Survey survey_of(const fs::path& folder, const fs::path& task, const std::string& file) {
  Survey survey;
  for (const fs::path& base : folders_in(folder))
    for (const fs::path& one : folders_in(base))
      for (const fs::path& label : folders_in(one / kSplit)) count_images(label, one == task, file, survey);
  return survey;
}

}  // namespace

CorrectionFolder::CorrectionFolder(const fs::path& folder, const CorrectionLimits& limits)
    : folder_(settled(folder)), limits_(limits) {
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error) fail_writing(folder_, error);
}

SavedCorrection CorrectionFolder::save(const Correction& correction) {
  check_label(correction.label);
  read_of_caller([&] { return decode_picture(correction.image, "image"); });
  const std::string file =
      sha256_hex(correction.image).substr(0, kDigestDigits).append(image_kind(correction.image).ending);
  const std::string base = visible(correction.base);
  const fs::path inside = fs::path(base) / correction.task / kSplit / correction.label / file;  // as in the answer

  const std::lock_guard lock(mutex_);
  Survey survey = survey_of(folder_, folder_ / base / correction.task, file);
  SavedCorrection saved{inside.string(), survey.of_task, {}};
  if (survey.same == folder_ / inside) return saved;
  if (survey.same.empty()) {
    const auto bytes = static_cast<std::int64_t>(correction.image.size());
    if (survey.images >= limits_.images || survey.bytes + bytes > limits_.bytes)
      fail(Code::kExhausted,
           "[corrections] {} images of {} bytes are kept, at most {} of {} bytes: learn from them first", survey.images,
           survey.bytes, limits_.images, limits_.bytes);
  }
  const fs::path label =
      folder_in(folder_in(folder_in(folder_in(folder_, base), correction.task), kSplit), correction.label);
  try {
    if (survey.same.empty()) {
      write_file_atomically(label / file, correction.image, FileAccess::kOwner);
      ++saved.images;
    } else {
      move(survey.same, label / file);
      saved.moved_from = survey.same.parent_path().filename().string();
    }
  } catch (...) {
    for (const fs::path& changed : {label, survey.same.parent_path()}) remove_if_empty(changed);
    throw;
  }
  return saved;
}

}  // namespace recast
