#include "shared_rows.h"

#include "recast/base/error.h"
#include "recast/format/printable.h"

namespace recast {

SharedRow SharedRows::version(const SharedVersion& version) const {
  if (const auto row = find(version)) return *row;
  fail(Code::kNotFound, "[store] no version {} of the shared state '{}'", version.version, printable(version.name));
}

std::set<std::int64_t> SharedRows::lineage(const std::string& name, std::int64_t version) const {
  std::set<std::int64_t> versions;
  while (version > 0 && versions.insert(version).second) version = this->version({name, version}).parent;
  return versions;
}

}  // namespace recast
