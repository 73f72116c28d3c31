#include "shared_turns.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <random>

#include "recast/base/error.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"

namespace recast {
namespace {

/// A locked file, open for reading and writing.
class Locked {
 public:
  explicit Locked(const std::filesystem::path& file)
      : file_(file), descriptor_(::open(file.c_str(), O_RDWR | O_CLOEXEC)) {
    if (descriptor_ < 0 || ::flock(descriptor_, LOCK_EX) != 0) failed();
  }
  ~Locked() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;

  std::string read() const {
    char text[64];
    const ssize_t size = ::pread(descriptor_, text, sizeof text, 0);
    if (size < 0) failed();
    return {text, static_cast<std::size_t>(size)};
  }
  void write(const std::string& text) const {
    if (::pwrite(descriptor_, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) failed();
  }

 private:
  [[noreturn]] void failed() const {
    fail(Code::kUnavailable, "[lab] {}: {}", printable_path(file_), std::strerror(errno));
  }
  const std::filesystem::path& file_;
  int descriptor_;
};

}  // namespace

SharedTurns::SharedTurns(const std::filesystem::path& folder, Ranks& ranks) : file_(folder / ".turns") {
  std::random_device random;
  const std::string word = fmt::format("{:08x}{:08x}", random(), random());
  if (ranks.first()) write_file_atomically(file_, "0");
  if (ranks.first()) write_file_atomically(folder / ".ranks", word);
  const std::string told = ranks.broadcast(word);
  std::error_code ignored;
  const bool seen = std::filesystem::exists(folder / ".ranks", ignored) && read_file(folder / ".ranks", 64) == told;
  const std::vector<std::string> all = ranks.gather(seen ? "+" : "-");
  for (std::size_t rank = 0; rank < all.size(); ++rank)
    if (all[rank] != "+")
      fail(Code::kUnsupported,
           "[lab] rank {} does not see what rank 0 writes to {}: the ranks of a lab need a folder that they share",
           rank, printable_path(folder));
}

std::int64_t SharedTurns::take() const {
  const Locked file(file_);
  const std::string text = file.read();
  std::int64_t next = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), next).ec != std::errc())
    fail(Code::kDataCorruption, "[lab] {} holds no number", printable_path(file_));
  file.write(std::to_string(next + 1));
  return next;
}

}  // namespace recast
