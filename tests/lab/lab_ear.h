#pragma once
#include <atomic>
#include <string>
#include <vector>

#include "recast/train/learn.h"

namespace recast {

/// What a lab says while it runs; may stop it at its n-th step.
class LabEar final : public Listener {
 public:
  void note(const std::string& text) override { notes.push_back(text); }
  void warning(const std::string& text) override { warnings.push_back(text); }
  void step(std::int64_t, std::int64_t) override {
    if (++steps == stop_at) stop = true;
  }
  /// Cells that were worked on, from what was said of them.
  std::vector<std::string> worked() const {
    std::vector<std::string> out;
    for (const std::string& note : notes)
      if (note.find("test top1") != note.npos)
        out.push_back(note.substr(note.find("] ") + 2, note.find(": ") - note.find("] ") - 2));
    return out;
  }

  std::vector<std::string> notes, warnings;
  std::int64_t steps = 0, stop_at = -1;
  std::atomic<bool> stop = false;
};

}  // namespace recast
