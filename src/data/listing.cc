#include "listing.h"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <memory>

namespace recast {
namespace {
namespace fs = std::filesystem;

[[noreturn]] void fail_listing(const fs::path& folder, int error) {
  throw fs::filesystem_error("cannot list", folder, std::error_code(error, std::generic_category()));
}

fs::file_type type_of(mode_t mode) {
  if (S_ISREG(mode)) return fs::file_type::regular;
  return S_ISDIR(mode) ? fs::file_type::directory : fs::file_type::unknown;
}

fs::file_type type_of(const dirent& entry, int folder_descriptor, const fs::path& folder) {
  if (entry.d_type == DT_REG) return fs::file_type::regular;
  if (entry.d_type == DT_DIR) return fs::file_type::directory;
  if (entry.d_type != DT_LNK && entry.d_type != DT_UNKNOWN) return fs::file_type::unknown;
  struct stat status;
  if (::fstatat(folder_descriptor, entry.d_name, &status, 0) == 0) return type_of(status.st_mode);
  if (errno == ENOENT || errno == ELOOP || errno == ENOTDIR) return fs::file_type::not_found;
  fail_listing(folder / entry.d_name, errno);
}

}  // namespace

Listing list_folder(const fs::path& folder) {
  const std::unique_ptr<DIR, int (*)(DIR*)> open(::opendir(folder.c_str()), ::closedir);
  if (!open) fail_listing(folder, errno);
  struct stat status;
  if (::fstat(::dirfd(open.get()), &status) != 0) fail_listing(folder, errno);
  Listing listing{{status.st_dev, status.st_ino}, {}};
  for (errno = 0; const dirent* entry = ::readdir(open.get()); errno = 0) {
    if (entry->d_name[0] == '.') continue;
    listing.entries.push_back({entry->d_name, type_of(*entry, ::dirfd(open.get()), folder)});
  }
  if (errno != 0) fail_listing(folder, errno);
  std::sort(listing.entries.begin(), listing.entries.end(),
            [](const ListedEntry& a, const ListedEntry& b) { return a.name < b.name; });
  return listing;
}

}  // namespace recast
