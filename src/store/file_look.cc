#include "file_look.h"

#include <sys/stat.h>

#include "recast/base/error.h"
#include "recast/format/printable.h"

namespace recast {

FileLook look_at(const std::filesystem::path& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return {};
  return {status.st_dev, status.st_ino, status.st_size,
          std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec};
}

StoreLook look_at_store(const std::filesystem::path& database) {
  return {look_at(database), look_at(database.string() + "-wal")};
}

void require_same_file(const std::filesystem::path& database, const FileLook& opened) {
  const FileLook now = look_at(database);
  if (now.same_file(opened)) return;
  fail(Code::kUnavailable,
       "[store] {}: was {} while it was open; see that its log (-wal) and blobs belong to it, then open it again",
       printable_path(database), now.there() ? "replaced by another file" : "taken away");
}

}  // namespace recast
