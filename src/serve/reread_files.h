#pragma once
#include <chrono>
#include <exception>
#include <filesystem>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "file_watch.h"

namespace recast {

/// What files said when they were read. They are read again when they change; while that fails, what was read last goes
/// on. Threads  all calls in parallel.
template <class Content>
class RereadFiles {
 public:
  /// `read()`: a shared_ptr<Content> of what the files say.
  template <class Read>
  RereadFiles(std::vector<std::filesystem::path> files, std::chrono::milliseconds every, const Read& read)
      : watch_(std::move(files), every), content_(read()) {}

  /// What counts now. Once in `every` at the most, by one thread at a time and only where the files may hold something
  /// new, `reread(old)` gives what they say, or null: the same as before. `kept_old(error)` is called where that throws
  /// of files that have changed.
  template <class Reread, class KeptOld>
  std::shared_ptr<Content> content(const Reread& reread, const KeptOld& kept_old) {
    reread_if_due(reread, kept_old);
    const std::lock_guard lock(mutex_);
    return content_;
  }

 private:
  template <class Reread, class KeptOld>
  void reread_if_due(const Reread& reread, const KeptOld& kept_old) {
    const std::unique_lock one(reading_, std::try_to_lock);  // the others go on with what there is
    if (!one) return;
    const FileWatch::News news = watch_.look();
    if (news == FileWatch::News::kNone) return;
    try {
      std::shared_ptr<Content> fresh = reread(*content_);  // nobody else replaces it
      if (!fresh) return;
      const std::lock_guard lock(mutex_);
      content_ = std::move(fresh);
    } catch (const std::exception& error) {
      if (news == FileWatch::News::kYes) kept_old(error);
    }
  }

  std::mutex reading_;  // of the next one
  FileWatch watch_;
  std::mutex mutex_;  // of the next one
  std::shared_ptr<Content> content_;
};

}  // namespace recast
