#include "disk.h"

#include <sys/vfs.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <system_error>
#include <utility>

#include "recast/base/error.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"

namespace recast {
namespace {

/// statfs(2), and each file system's source for those that it leaves out.
constexpr std::array<std::pair<std::uint32_t, const char*>, 15> kNetwork{{{0x6969, "NFS"},
                                                                          {0xFF534D42, "CIFS"},
                                                                          {0xFE534D42, "SMB2"},
                                                                          {0x517B, "SMB"},
                                                                          {0x01021997, "9p"},
                                                                          {0x65735546, "FUSE"},
                                                                          {0x5346414F, "AFS"},
                                                                          {0x6B414653, "AFS"},
                                                                          {0x73757245, "Coda"},
                                                                          {0x00C36400, "Ceph"},
                                                                          {0x0BD00BD0, "Lustre"},
                                                                          {0x47504653, "GPFS"},
                                                                          {0x19830326, "BeeGFS"},
                                                                          {0x7461636F, "OCFS2"},
                                                                          {0x786F4256, "VirtualBox shared folder"}}};

}  // namespace

void make_folder(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directory(folder, error);
  if (error) {
    fail(Code::kUnavailable, "[store] {}: cannot be created: {}", printable_path(folder), error.message());
  }
}

void sync_folder(const std::filesystem::path& folder) {
  if (const int error = flush_folder(folder); error != 0) {
    fail(Code::kUnavailable, "[store] {}: cannot be flushed to disk: {}", printable_path(folder),
         std::generic_category().message(error));
  }
}

std::optional<std::string> network_file_system(const std::filesystem::path& path) {
  struct statfs status {};
  if (::statfs(path.c_str(), &status) != 0) return {};
  for (const auto& [magic, name] : kNetwork) {
    if (static_cast<std::uint32_t>(status.f_type) == magic) return name;
  }
  return {};
}

void refuse_network(const std::filesystem::path& directory) {
  const char* allowed = std::getenv("RECAST_NETWORK_STORE");
  if (allowed != nullptr && std::string_view(allowed) == "allow") return;
  const auto kind = network_file_system(directory);
  if (!kind) return;
  fail(Code::kUnsupported,
       "[store] {}: lies on a network file system ({}), where two machines could write at once; use a local disk, or "
       "set RECAST_NETWORK_STORE=allow where no other machine ever opens it",
       printable_path(directory), *kind);
}

}  // namespace recast
