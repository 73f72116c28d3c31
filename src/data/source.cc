#include "source.h"

#include "listing.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"

namespace recast {
namespace fs = std::filesystem;

Picture read_image(const fs::path& file) {
  return decode_picture(read_file(file, kMaxImageBytes), printable_path(file));
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (auto& entry : list_folder(folder).entries) names.push_back(std::move(entry.name));
  return names;
}

}  // namespace recast
