#pragma once
#include <sys/types.h>

#include <filesystem>
#include <optional>

namespace recast {

/// The process that writes to an SQLite database, by the kernel's table of locks; nothing where none is seen. SQLite's
/// own files are not opened: closing them would drop the locks that this process has on them.
std::optional<pid_t> lock_holder(const std::filesystem::path& database);

}  // namespace recast
