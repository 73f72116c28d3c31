#include "recast/data/cache_folder.h"

#include <cstdlib>
#include <string_view>

namespace recast {
namespace fs = std::filesystem;

namespace {

std::string_view variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

}  // namespace

fs::path cache_folder() {
  if (const auto chosen = variable("RECAST_CACHE"); !chosen.empty()) return chosen == "off" ? fs::path() : chosen;
  if (const fs::path base = variable("XDG_CACHE_HOME"); base.is_absolute()) return base / "recast";
  if (const fs::path home = variable("HOME"); home.is_absolute()) return home / ".cache/recast";
  return {};
}

}  // namespace recast
