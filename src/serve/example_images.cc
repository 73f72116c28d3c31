#include "example_images.h"

#include <algorithm>

#include "image_kind.h"
#include "recast/base/error.h"
#include "recast/base/log.h"
#include "recast/data/picture.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"

namespace recast {
namespace {
namespace fs = std::filesystem;

std::vector<fs::path> files_in(const fs::path& folder) {
  std::error_code error;
  if (!fs::is_directory(folder, error))
    fail(Code::kNotFound, "[serve] --examples {}: there is no such folder", printable_path(folder));
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with('.') && entry.is_regular_file(error) && printable(name, name.size() + 1) == name)
      files.push_back(entry.path());
  }
  std::ranges::sort(files);
  return files;
}

}  // namespace

std::vector<PageExample> read_examples(const fs::path& folder) {
  std::vector<PageExample> examples;
  for (const fs::path& file : files_in(folder)) {
    if (examples.size() == kMostExamples) break;
    const std::string name = file.filename().string();
    try {
      std::string bytes = read_file(file, kMostExampleBytes);
      decode_picture(bytes, name);
      examples.push_back({name, image_kind(bytes).media_type, std::move(bytes)});
    } catch (const Error& error) {
      log_event(LogLevel::kWarn, "http.example_left_out",
                {{"file", std::string_view(name)}, {"message", std::string_view(error.what())}});
    }
  }
  return examples;
}

}  // namespace recast
