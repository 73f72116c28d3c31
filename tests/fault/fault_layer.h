#pragma once
#include <cstdint>
#include <string>
#include <vector>

/// Stands between a test program and the C library: because the program links it first, the calls of SQLite, libtorch
/// and recast on files below a chosen folder, and their requests for memory, pass through it. Nothing of the product
/// knows of it. One thread at a time; a child made by fork has a layer of its own.
namespace recast::fault {

enum Call : unsigned {
  kWrite = 1,      ///< write, pwrite
  kSync = 2,       ///< fsync, fdatasync, of files and folders
  kRename = 4,     ///< rename
  kOpen = 8,       ///< open, openat
  kTruncate = 16,  ///< ftruncate
  kUnlink = 32,    ///< unlink, remove
  kFolder = 64,    ///< mkdir
  kMap = 128,      ///< mmap of a watched file
  kMemory = 256,   ///< malloc, calloc, realloc, posix_memalign, aligned_alloc
  kClose = 512,    ///< close
  kFileCalls = kWrite | kSync | kRename | kOpen | kTruncate | kUnlink | kFolder | kMap | kClose
};

enum class Fault {
  kNone,      ///< count only
  kKill,      ///< SIGKILL before the call
  kKillHalf,  ///< SIGKILL after the first half of a write; before any other call
  kFail,      ///< the call fails with `error`
};

struct Plan {
  unsigned calls = kFileCalls;
  std::int64_t nth = 0;  ///< counted from 1 among `calls`
  Fault fault = Fault::kNone;
  int error = 0;            ///< errno
  bool persistent = false;  ///< all from the nth on
};

/// Calls on files below `folder`, as it is spelt by the caller, are seen from now on.
void watch(const std::string& folder);
void arm(const Plan& plan);
void disarm();
/// Requests for memory are not the store's for a while: they count and fail only when this is false.
void spare_memory(bool spared);
/// Calls that the plan counted since arm(); how many of them were made to fail.
std::int64_t counted();
std::int64_t failed();
/// Of those, all were syncs of folders.
bool failed_on_folder_only();

/// What happened to a file or a folder. Files are known by number, since a rename changes their paths.
struct Event {
  enum Kind { kCreate, kWrite, kTruncate, kSync, kSyncFailed, kRename, kUnlink, kFolder, kSyncFolder, kNote } kind;
  int file = -1;
  std::int64_t offset = 0;  ///< of a write; the new length; or what note() was given
  std::string path, to;     ///< below the watched folder
  std::string bytes;
};

/// Keeps all that happens below the watched folder, which is empty as yet, from now on. SQLite's -shm file is left out:
/// it lives in memory and is made anew after a crash.
void start_journal();
std::vector<Event> stop_journal();
/// Puts a mark into the journal.
void note(std::int64_t number);

/// statfs() says this f_type from now on; 0: the truth.
void pretend_file_system(std::uint32_t magic);

}  // namespace recast::fault
