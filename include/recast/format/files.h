#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

struct evp_md_ctx_st;

namespace recast {

/// A regular file opened for reading, whose size and time of change are remembered.
/// Threads  one at a time.  Owns  the descriptor.
class InputFile {
 public:
  /// Throws  kNotFound: nothing there;  kInvalidArgument: a directory, pipe or device;  kUnavailable: cannot be opened.
  explicit InputFile(const std::filesystem::path& path);
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;
  ~InputFile();

  std::uint64_t size() const { return size_; }
  /// Fills `out` from byte `offset` on. Throws  kDataCorruption: the file ends before;  kUnavailable: read error.
  void read_at(std::uint64_t offset, std::span<std::byte> out) const;
  /// Throws kDataCorruption if size or time of change differ from those at opening. Call it after the last read.
  void check_unchanged() const;

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
  std::int64_t changed_s_ = 0;
  std::int64_t changed_ns_ = 0;
};

/// All bytes of a file of at most `max_bytes`. Throws as InputFile; kExhausted: the file is larger.
std::string read_file(const std::filesystem::path& path, std::uint64_t max_bytes);

/// Who may open a file that is written here: everyone to read it (0644 less the umask), or its owner alone (0600), from
/// the first byte on. kOwnerAndGroup: the group of the file that it replaces, too, to read it, where that group might.
enum class FileAccess { kEveryone, kOwner, kOwnerAndGroup };

/// A file that appears under its name whole or not at all: written beside the target, then renamed.
/// Crash    once commit() returned, the new content survives; before that the old content does.
/// Threads  one at a time; two writers of one path do not disturb each other, the last commit wins.
/// An existing file is replaced; a symbolic link is replaced, not followed.
class AtomicFile {
 public:
  /// `bytes_needed`: for the message when the disk is full, where known beforehand.
  /// Throws  kNotFound: no such folder;  kInvalidArgument: the target is a folder;  kUnavailable: cannot be created.
  explicit AtomicFile(const std::filesystem::path& path, std::uint64_t bytes_needed = 0,
                      FileAccess access = FileAccess::kEveryone);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  /// Without commit() the temporary file is removed and the target stays as it was.
  ~AtomicFile();

  /// Throws kUnavailable with path, reason and bytes; the object is then only good for destruction.
  void write(std::string_view bytes);
  /// Flushes file and folder to the disk and puts the file in place. Throws kUnavailable.
  void commit();

 private:
  [[noreturn]] void fail_write(const char* action, int error) const;
  std::filesystem::path target_;
  std::filesystem::path folder_;
  std::filesystem::path temporary_;
  int descriptor_ = -1;
  std::uint64_t bytes_needed_;
  std::uint64_t written_ = 0;
};

/// What an AtomicFile writes to before it is put in place: begins so, goes on with the number of the process.
constexpr std::string_view kTemporaryBegin = ".recast-";
bool is_temporary_name(std::string_view file_name);

/// Makes the names in a folder survive a loss of power, those that other processes put there too. Returns 0, or the
/// errno of what failed; where a file system cannot flush a folder there is nothing to do, which is no failure.
int flush_folder(const std::filesystem::path& folder);

/// AtomicFile in one call.
void write_file_atomically(const std::filesystem::path& path, std::string_view bytes,
                           FileAccess access = FileAccess::kEveryone);

/// SHA-256 piece by piece. One thread at a time.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;
  void update(std::string_view bytes);
  /// 64 lower-case hexadecimal digits; the object starts afresh afterwards.
  std::string finish_hex();

 private:
  std::unique_ptr<evp_md_ctx_st, void (*)(evp_md_ctx_st*)> context_;
};

std::string sha256_hex(std::string_view bytes);
/// Digest of a file of any size, read in pieces. Throws as InputFile.
std::string sha256_hex_of_file(const std::filesystem::path& path);

/// The content of a gzip file (several members in a row are joined). `origin` names it in messages.
/// Throws  kDataCorruption: damaged, cut off, or followed by other bytes;  kExhausted: more than `max_bytes` unpacked,
///         found out before more than that is stored.
std::string gunzip(std::string_view bytes, std::uint64_t max_bytes, std::string_view origin = "gzip data");

}  // namespace recast
