#pragma once
#include <chrono>
#include <string>

#include "recast/train/learn.h"

namespace recast {

/// What a run reports, on standard error: a bar with the time left on a terminal, one line per epoch in any case.
class Progress final : public Listener {
 public:
  /// quiet: warnings alone. verbose: names of stages too where there is no bar.
  Progress(bool quiet, bool verbose);
  ~Progress() override { clear(); }
  void stage(const std::string& name, std::int64_t total_steps) override;
  void step(std::int64_t done, std::int64_t total) override;
  void epoch(const EpochMetrics& metrics) override;
  void note(const std::string& text) override;
  void warning(const std::string& text) override;

 private:
  using Clock = std::chrono::steady_clock;
  void line(const std::string& text);
  void clear();

  const bool quiet_, verbose_, bar_;
  bool drawn_ = false;
  std::string stage_;
  Clock::time_point began_{}, last_{};
};

}  // namespace recast
