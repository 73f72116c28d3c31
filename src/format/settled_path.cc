#include "recast/format/settled_path.h"

namespace recast {

std::filesystem::path settled(const std::filesystem::path& path) {
  const std::filesystem::path normal = std::filesystem::absolute(path).lexically_normal();
  return normal.has_filename() ? normal : normal.parent_path();
}

}  // namespace recast
