#pragma once
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "recast/base/log.h"

namespace recast {

/// What is logged while it lives, from a level on. Nothing else may install a sink meanwhile. Threads: any may log.
class LogCapture {
 public:
  explicit LogCapture(LogLevel lowest) {
    set_log(lowest, [kept = kept_](const LogEvent& event) {  // a sink may still be at work when it is replaced
      const std::lock_guard lock(kept->mutex);
      kept->names.emplace_back(event.name);
      kept->lines.push_back(log_line(event, LogFormat::kText, 0));
    });
  }
  LogCapture(const LogCapture&) = delete;
  LogCapture& operator=(const LogCapture&) = delete;
  ~LogCapture() { set_log(LogLevel::kOff, {}); }

  std::vector<std::string> names() const {
    const std::lock_guard lock(kept_->mutex);
    return kept_->names;
  }
  /// As text, each with its end of line.
  std::vector<std::string> lines() const {
    const std::lock_guard lock(kept_->mutex);
    return kept_->lines;
  }

 private:
  struct Kept {
    std::mutex mutex;
    std::vector<std::string> names, lines;
  };
  std::shared_ptr<Kept> kept_ = std::make_shared<Kept>();
};

}  // namespace recast
