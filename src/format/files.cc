#include "recast/format/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <system_error>
#include <utility>

#include "recast/base/error.h"
#include "recast/format/printable.h"

namespace recast {
namespace {

constexpr std::string_view kTemporaryEnd = ".tmp";

std::string reason(int error) { return std::generic_category().message(error); }

struct stat status_of(int descriptor, const std::filesystem::path& path) {
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) fail(Code::kUnavailable, "[file] {}: {}", printable_path(path), reason(errno));
  return status;
}

int open_for_reading(const std::filesystem::path& path) {
  int descriptor = -1;
  // Without O_NONBLOCK, opening a pipe would wait for its writer before its kind can be told.
  do descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  while (descriptor < 0 && errno == EINTR);
  if (descriptor >= 0) return descriptor;
  const int error = errno;
  if (error == ENOENT || error == ENOTDIR) fail(Code::kNotFound, "[file] {}: no such file", printable_path(path));
  if (error == ELOOP)
    fail(Code::kNotFound, "[file] {}: a link that leads back to itself; mend or remove it", printable_path(path));
  if (error == ENAMETOOLONG) {
    fail(Code::kInvalidArgument, "[file] {}: the name is longer than this file system takes; choose a shorter one",
         printable_path(path));
  }
  fail(Code::kUnavailable, "[file] {}: cannot open for reading: {}", printable_path(path), reason(error));
}

void require_regular(const struct stat& status, const std::filesystem::path& path) {
  if (S_ISDIR(status.st_mode))
    fail(Code::kInvalidArgument, "[file] {}: is a folder; expected a file", printable_path(path));
  if (!S_ISREG(status.st_mode)) {
    fail(Code::kInvalidArgument, "[file] {}: is a pipe or device; expected a regular file", printable_path(path));
  }
}

/// O_EXCL makes sure that nobody else's file, nor a link planted here, is ever written to.
int create_beside(const std::filesystem::path& folder, FileAccess access, std::filesystem::path& path) {
  const mode_t mode = access == FileAccess::kEveryone ? 0644 : 0600;
  static std::atomic<unsigned> counter{0};
  for (int attempt = 0;; ++attempt) {
    path = folder / fmt::format("{}{}-{}{}", kTemporaryBegin, ::getpid(), counter++, kTemporaryEnd);
    const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (descriptor >= 0) return descriptor;
    const bool try_again = errno == EINTR || (errno == EEXIST && attempt < 1000);
    if (!try_again) return -1;
  }
}

}  // namespace

InputFile::InputFile(const std::filesystem::path& path) : path_(path), descriptor_(open_for_reading(path)) {
  try {
    const struct stat status = status_of(descriptor_, path_);
    require_regular(status, path_);
    size_ = static_cast<std::uint64_t>(status.st_size);
    changed_s_ = status.st_mtim.tv_sec;
    changed_ns_ = status.st_mtim.tv_nsec;
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

InputFile::~InputFile() { ::close(descriptor_); }

void InputFile::read_at(std::uint64_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    const ssize_t got = ::pread(descriptor_, out.data(), out.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0)
      fail(Code::kUnavailable, "[file] {}: cannot read at byte {}: {}", printable_path(path_), offset, reason(errno));
    if (got == 0) {
      fail(Code::kDataCorruption, "[file] {}: ends at byte {}, {} more were expected; it was cut off while being read",
           printable_path(path_), offset, out.size());
    }
    offset += static_cast<std::uint64_t>(got);
    out = out.subspan(static_cast<std::size_t>(got));
  }
}

void InputFile::check_unchanged() const {
  const struct stat now = status_of(descriptor_, path_);
  const auto size = static_cast<std::uint64_t>(now.st_size);
  if (size != size_) {
    fail(Code::kDataCorruption,
         "[file] {}: changed while being read: {} bytes before, {} after; read it again when its "
         "writer has finished",
         printable_path(path_), size_, size);
  }
  if (now.st_mtim.tv_sec != changed_s_ || now.st_mtim.tv_nsec != changed_ns_) {
    fail(Code::kDataCorruption,
         "[file] {}: was written to while being read; read it again when its writer has finished",
         printable_path(path_));
  }
}

std::string read_file(const std::filesystem::path& path, std::uint64_t max_bytes) {
  const InputFile file(path);
  if (file.size() > max_bytes) {
    fail(Code::kExhausted, "[file] {}: has {} bytes; at most {} are accepted", printable_path(path), file.size(),
         max_bytes);
  }
  std::string bytes(file.size(), '\0');
  file.read_at(0, std::as_writable_bytes(std::span(bytes)));
  file.check_unchanged();
  return bytes;
}

AtomicFile::AtomicFile(const std::filesystem::path& path, std::uint64_t bytes_needed, FileAccess access)
    : target_(path), folder_(path.has_parent_path() ? path.parent_path() : "."), bytes_needed_(bytes_needed) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(folder_, ignored)) {
    fail(Code::kNotFound, "[file] {}: cannot be written: no such folder", printable_path(target_));
  }
  if (!path.has_filename() || std::filesystem::is_directory(path, ignored)) {
    fail(Code::kInvalidArgument, "[file] {}: is a folder; expected the name of a file to write",
         printable_path(target_));
  }
  // The new file would take the place of /dev/null itself.
  if (std::filesystem::is_other(path, ignored)) {
    fail(Code::kInvalidArgument, "[file] {}: is a pipe or device; expected the name of a regular file to write",
         printable_path(target_));
  }
  descriptor_ = create_beside(folder_, access, temporary_);
  if (descriptor_ < 0) {
    temporary_.clear();
    fail_write("create a file beside it", errno);
  }
  struct stat before {};
  if (access != FileAccess::kOwnerAndGroup || ::stat(target_.c_str(), &before) != 0) return;
  // Who may not give it to that group keeps it to himself.
  if (::fchown(descriptor_, static_cast<uid_t>(-1), before.st_gid) == 0 && (before.st_mode & S_IRGRP) != 0)
    ::fchmod(descriptor_, 0640);
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::fail_write(const char* action, int error) const {
  const std::uint64_t needed = std::max(bytes_needed_, written_);
  fail(Code::kUnavailable, "[file] {}: cannot {}: {}; it needs {} bytes, nothing was changed", printable_path(target_),
       action, reason(error), needed);
}

void AtomicFile::write(std::string_view bytes) {
  bytes_needed_ = std::max(bytes_needed_, written_ + bytes.size());
  while (!bytes.empty()) {
    const ssize_t put = ::write(descriptor_, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) fail_write("write", errno);
    bytes.remove_prefix(static_cast<std::size_t>(put));
    written_ += static_cast<std::uint64_t>(put);
  }
}

void AtomicFile::commit() {
  if (::fsync(descriptor_) != 0) fail_write("flush to disk", errno);
  const int closed = ::close(std::exchange(descriptor_, -1));
  if (closed != 0) fail_write("close", errno);
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail_write("put the new file in place", errno);
  temporary_.clear();
  if (const int error = flush_folder(folder_); error != 0) {
    fail(Code::kUnavailable, "[file] {}: is written, but its folder cannot be flushed to disk: {}",
         printable_path(target_), reason(error));
  }
}

bool is_temporary_name(std::string_view file_name) {
  return file_name.starts_with(kTemporaryBegin) && file_name.ends_with(kTemporaryEnd);
}

int flush_folder(const std::filesystem::path& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return errno;
  const int error = ::fsync(descriptor) == 0 || errno == EINVAL ? 0 : errno;
  ::close(descriptor);
  return error;
}

void write_file_atomically(const std::filesystem::path& path, std::string_view bytes, FileAccess access) {
  AtomicFile file(path, bytes.size(), access);
  file.write(bytes);
  file.commit();
}

}  // namespace recast
