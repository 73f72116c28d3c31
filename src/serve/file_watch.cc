#include "file_watch.h"

#include <algorithm>
#include <utility>

namespace recast {
namespace {

constexpr auto kMoment = std::chrono::seconds(2);  // as coarse as a file system's clock may be

std::int64_t nanoseconds(const ::timespec& time) { return time.tv_sec * 1'000'000'000 + time.tv_nsec; }

}  // namespace

FileWatch::FileWatch(std::vector<std::filesystem::path> files, std::chrono::milliseconds every)
    : files_(std::move(files)), every_(every), due_(std::chrono::steady_clock::now() + every), seen_(signatures()) {}

FileWatch::News FileWatch::look() {
  const auto now = std::chrono::steady_clock::now();
  if (now < due_) return News::kNone;
  due_ = now + every_;
  std::vector<Signature> current = signatures();
  const bool changed = current != seen_;
  seen_ = std::move(current);
  if (changed) return News::kYes;
  const auto wall = std::chrono::system_clock::now().time_since_epoch();
  const bool fresh = std::ranges::any_of(
      seen_, [&](const Signature& one) { return wall - std::chrono::nanoseconds(one.changed_ns) < kMoment; });
  return fresh ? News::kMaybe : News::kNone;
}

std::vector<FileWatch::Signature> FileWatch::signatures() const {
  std::vector<Signature> list;
  for (const std::filesystem::path& file : files_) {
    struct stat status {};
    Signature& one = list.emplace_back();
    if (::stat(file.c_str(), &status) != 0) continue;
    one = {status.st_dev, status.st_ino, status.st_size, nanoseconds(status.st_mtim), nanoseconds(status.st_ctim)};
  }
  return list;
}

}  // namespace recast
