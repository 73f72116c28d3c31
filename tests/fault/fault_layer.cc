#include "fault_layer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <map>
#include <utility>

namespace recast::fault {
namespace {

constexpr int kMostDescriptors = 4096;

struct Opened {
  bool watched = false, folder = false, journalled = false;
  int file = -1;
  std::string path;
};

/// Made on first use: calls come before any constructor has run. Never destroyed, for calls after the last one.
struct Layer {
  std::string folder;
  Plan plan;
  bool armed = false, journalling = false;
  std::int64_t counted = 0, failed = 0, failed_on_folders = 0;
  std::array<Opened, kMostDescriptors> opened;
  std::map<std::string, int> files;
  int next_file = 0;
  std::vector<Event> journal;
};

Layer& layer() {
  static Layer* const made = new Layer;
  return *made;
}

/// The layer's own work asks for memory too, and must not be counted.
thread_local bool inside = false;
bool active = false;         // there is a folder to watch, or a plan
bool memory_counts = false;  // the plan is about memory
thread_local bool my_thread = false;
std::uint32_t pretended = 0;

class Inside {
 public:
  Inside() : before_(std::exchange(inside, true)) {}
  ~Inside() { inside = before_; }

 private:
  bool before_;
};

enum class Answer { kGoOn, kFail, kHalf };

[[noreturn]] void die() {
  ::syscall(SYS_kill, ::getpid(), SIGKILL);
  for (;;) ::pause();
}

Answer decide(unsigned call) {
  Layer& l = layer();
  if (!l.armed || (l.plan.calls & call) == 0) return Answer::kGoOn;
  const std::int64_t now = ++l.counted;
  if (now < l.plan.nth || (now > l.plan.nth && !l.plan.persistent) || l.plan.nth == 0) return Answer::kGoOn;
  switch (l.plan.fault) {
    case Fault::kNone:
      return Answer::kGoOn;
    case Fault::kKillHalf:
      if (call == kWrite) return Answer::kHalf;
      [[fallthrough]];
    case Fault::kKill:
      die();
    case Fault::kFail:
      ++l.failed;
      errno = l.plan.error;
      return Answer::kFail;
  }
  return Answer::kGoOn;
}

bool below(const std::string& path) {
  const std::string& folder = layer().folder;
  return !folder.empty() && path.starts_with(folder) && (path.size() == folder.size() || path[folder.size()] == '/');
}

std::string relative(const std::string& path) {
  return path.size() > layer().folder.size() ? path.substr(layer().folder.size() + 1) : "";
}

Opened* opened(int descriptor) {
  if (!active || descriptor < 0 || descriptor >= kMostDescriptors) return nullptr;
  Opened& found = layer().opened[static_cast<std::size_t>(descriptor)];
  return found.watched ? &found : nullptr;
}

void keep(Event event) {
  if (layer().journalling) layer().journal.push_back(std::move(event));
}

bool is_journalled(const std::string& path) { return layer().journalling && !path.ends_with("-shm"); }

void note_opened(int descriptor, const std::string& path, int flags, bool existed) {
  if (descriptor < 0 || descriptor >= kMostDescriptors) return;
  Layer& l = layer();
  Opened& now = l.opened[static_cast<std::size_t>(descriptor)];
  struct stat status {};
  now = {true, ::fstat(descriptor, &status) == 0 && S_ISDIR(status.st_mode), false, -1, relative(path)};
  if (now.folder || !is_journalled(path)) return;
  now.journalled = true;
  if (!existed) l.files[now.path] = l.next_file++;
  now.file = l.files.at(now.path);
  if (!existed) keep({Event::kCreate, now.file, 0, now.path, {}, {}});
  if (existed && (flags & O_TRUNC) != 0) keep({Event::kTruncate, now.file, 0, {}, {}, {}});
}

int open_at(int folder, const char* path, int flags, mode_t mode) {
  const auto call = [&] { return static_cast<int>(::syscall(SYS_openat, folder, path, flags | O_LARGEFILE, mode)); };
  if (!active || inside) return call();
  const Inside own;
  if (path[0] != '/' || !below(path)) {
    const int descriptor = call();
    if (descriptor >= 0 && descriptor < kMostDescriptors) layer().opened[static_cast<std::size_t>(descriptor)] = {};
    return descriptor;
  }
  if (decide(kOpen) == Answer::kFail) return -1;
  const bool existed = ::access(path, F_OK) == 0;
  const int descriptor = call();
  const int error = errno;
  if (descriptor >= 0) note_opened(descriptor, path, flags, existed);
  errno = error;
  return descriptor;
}

ssize_t put(int descriptor, const void* bytes, std::size_t size, std::int64_t offset) {
  const auto call = [&](std::size_t part) -> ssize_t {
    return offset < 0 ? ::syscall(SYS_write, descriptor, bytes, part)
                      : ::syscall(SYS_pwrite64, descriptor, bytes, part, offset);
  };
  Opened* const file = inside ? nullptr : opened(descriptor);
  if (file == nullptr) return call(size);
  const Inside own;
  const Answer answer = decide(kWrite);
  if (answer == Answer::kFail) return -1;
  if (answer == Answer::kHalf) {
    call(size / 2);
    die();
  }
  const std::int64_t at = offset >= 0 ? offset : ::lseek(descriptor, 0, SEEK_CUR);
  const ssize_t done = call(size);
  if (done > 0 && file->journalled) {
    keep({Event::kWrite, file->file, at, {}, {}, {static_cast<const char*>(bytes), static_cast<std::size_t>(done)}});
  }
  return done;
}

int sync(int descriptor, long number) {
  Opened* const file = inside ? nullptr : opened(descriptor);
  if (file == nullptr) return static_cast<int>(::syscall(number, descriptor));
  const Inside own;
  const bool failed = decide(kSync) == Answer::kFail;
  const int error = errno;
  if (file->folder) {
    layer().failed_on_folders += failed;
    if (!failed) keep({Event::kSyncFolder, -1, 0, file->path, {}, {}});
  } else if (file->journalled) {
    keep({failed ? Event::kSyncFailed : Event::kSync, file->file, 0, {}, {}, {}});
  }
  errno = error;
  return failed ? -1 : static_cast<int>(::syscall(number, descriptor));
}

void note_gone(const std::string& path) {
  if (!is_journalled(path) || layer().files.erase(relative(path)) == 0) return;
  keep({Event::kUnlink, -1, 0, relative(path), {}, {}});
}

template <class Work>
int change_name(const char* path, unsigned kind, const Work& work) {
  if (!active || inside) return work();
  const Inside own;
  if (!below(path)) return work();
  if (decide(kind) == Answer::kFail) return -1;
  return work();
}

void* memory(void* (*make)(std::size_t, std::size_t), std::size_t a, std::size_t b) {
  if (memory_counts && my_thread && !inside) {
    const Inside own;
    if (decide(kMemory) == Answer::kFail) return nullptr;
  }
  return make(a, b);
}

}  // namespace

void watch(const std::string& folder) {
  const Inside own;
  layer().folder = folder;
  active = true;
}

void arm(const Plan& plan) {
  const Inside own;
  Layer& l = layer();
  l.plan = plan;
  l.counted = l.failed = l.failed_on_folders = 0;
  l.armed = active = my_thread = true;
  memory_counts = (plan.calls & kMemory) != 0;
}

void disarm() { layer().armed = memory_counts = false; }

void spare_memory(bool spared) { memory_counts = !spared && layer().armed && (layer().plan.calls & kMemory) != 0; }

std::int64_t counted() { return layer().counted; }
std::int64_t failed() { return layer().failed; }
bool failed_on_folder_only() { return layer().failed > 0 && layer().failed == layer().failed_on_folders; }

void start_journal() {
  const Inside own;
  Layer& l = layer();
  l.journal.clear();
  l.files.clear();
  l.next_file = 0;
  l.journalling = true;
}

std::vector<Event> stop_journal() {
  const Inside own;
  layer().journalling = false;
  return std::move(layer().journal);
}

void note(std::int64_t number) {
  const Inside own;
  keep({Event::kNote, -1, number, {}, {}, {}});
}

void pretend_file_system(std::uint32_t magic) { pretended = magic; }

}  // namespace recast::fault

// ---- the C library's names ----

using namespace recast::fault;

extern "C" {

void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t size) {
  return memory([](std::size_t n, std::size_t) { return __libc_malloc(n); }, size, 0);
}
void* calloc(std::size_t count, std::size_t size) { return memory(__libc_calloc, count, size); }
void* realloc(void* block, std::size_t size) {
  return memory([](std::size_t at, std::size_t n) { return __libc_realloc(reinterpret_cast<void*>(at), n); },
                reinterpret_cast<std::size_t>(block), size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) { return memory(__libc_memalign, alignment, size); }
void* memalign(std::size_t alignment, std::size_t size) { return memory(__libc_memalign, alignment, size); }
int posix_memalign(void** block, std::size_t alignment, std::size_t size) {
  void* const made = memory(__libc_memalign, alignment, size);
  if (made == nullptr) return ENOMEM;
  *block = made;
  return 0;
}

mode_t mode_of(int flags, va_list more) { return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(more, mode_t) : 0; }

int open(const char* path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  const mode_t mode = mode_of(flags, more);
  va_end(more);
  return open_at(AT_FDCWD, path, flags, mode);
}
int open64(const char* path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  const mode_t mode = mode_of(flags, more);
  va_end(more);
  return open_at(AT_FDCWD, path, flags, mode);
}
int __open_2(const char* path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
int __open64_2(const char* path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }

ssize_t write(int descriptor, const void* bytes, std::size_t size) { return put(descriptor, bytes, size, -1); }
ssize_t pwrite(int descriptor, const void* bytes, std::size_t size, off_t offset) {
  return put(descriptor, bytes, size, offset);
}
ssize_t pwrite64(int descriptor, const void* bytes, std::size_t size, off64_t offset) {
  return put(descriptor, bytes, size, offset);
}

int fsync(int descriptor) { return sync(descriptor, SYS_fsync); }
int fdatasync(int descriptor) { return sync(descriptor, SYS_fdatasync); }

int ftruncate(int descriptor, off_t length) {
  Opened* const file = inside ? nullptr : opened(descriptor);
  if (file == nullptr) return static_cast<int>(::syscall(SYS_ftruncate, descriptor, length));
  const Inside own;
  if (decide(kTruncate) == Answer::kFail) return -1;
  const int done = static_cast<int>(::syscall(SYS_ftruncate, descriptor, length));
  if (done == 0 && file->journalled) keep({Event::kTruncate, file->file, length, {}, {}, {}});
  return done;
}
int ftruncate64(int descriptor, off64_t length) { return ftruncate(descriptor, length); }

int rename(const char* from, const char* to) {
  return change_name(from, kRename, [&] {
    const int done = static_cast<int>(::syscall(SYS_rename, from, to));
    if (done == 0 && active && below(from) && is_journalled(from)) {
      Layer& l = layer();
      const int file = l.files.at(relative(from));
      l.files.erase(relative(from));
      l.files[relative(to)] = file;
      keep({Event::kRename, file, 0, relative(from), relative(to), {}});
    }
    return done;
  });
}

int unlink(const char* path) {
  return change_name(path, kUnlink, [&] {
    const int done = static_cast<int>(::syscall(SYS_unlink, path));
    if (done == 0 && active && below(path)) note_gone(path);
    return done;
  });
}
int remove(const char* path) {
  struct stat status {};
  if (::lstat(path, &status) == 0 && S_ISDIR(status.st_mode)) return ::rmdir(path);
  return unlink(path);
}

int mkdir(const char* path, mode_t mode) {
  return change_name(path, kFolder, [&] {
    const int done = static_cast<int>(::syscall(SYS_mkdir, path, mode));
    if (done == 0 && active && below(path)) keep({Event::kFolder, -1, 0, relative(path), {}, {}});
    return done;
  });
}

void* mmap(void* at, std::size_t size, int protection, int flags, int descriptor, off_t offset) {
  if (!inside && opened(descriptor) != nullptr) {
    const Inside own;
    if (decide(kMap) == Answer::kFail) return reinterpret_cast<void*>(-1);
  }
  return reinterpret_cast<void*>(::syscall(SYS_mmap, at, size, protection, flags, descriptor, offset));
}
void* mmap64(void* at, std::size_t size, int protection, int flags, int descriptor, off64_t offset) {
  return mmap(at, size, protection, flags, descriptor, offset);
}

int close(int descriptor) {
  if (Opened* const file = inside ? nullptr : opened(descriptor)) {
    const Inside own;
    const bool failed = decide(kClose) == Answer::kFail;
    *file = {};
    const int done = static_cast<int>(::syscall(SYS_close, descriptor));
    if (failed) errno = layer().plan.error;
    return failed ? -1 : done;
  }
  return static_cast<int>(::syscall(SYS_close, descriptor));
}

int statfs(const char* path, struct statfs* status) {
  const int done = static_cast<int>(::syscall(SYS_statfs, path, status));
  if (done == 0 && pretended != 0) status->f_type = pretended;
  return done;
}
int statfs64(const char* path, struct statfs64* status) {
  return statfs(path, reinterpret_cast<struct statfs*>(status));
}

}  // extern "C"
