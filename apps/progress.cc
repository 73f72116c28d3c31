#include "progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "crash.h"

namespace recast {
namespace {

bool is_terminal() {
  const char* kind = std::getenv("TERM");
  return ::isatty(STDERR_FILENO) == 1 && (kind == nullptr || std::string_view(kind) != "dumb");
}

std::string duration_text(double seconds) {
  const auto whole = static_cast<std::int64_t>(seconds + 0.5);
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{}:{:02} min", whole / 60, whole % 60);
  return fmt::format("{}:{:02} h", whole / 3600, whole / 60 % 60);
}

}  // namespace

Progress::Progress(bool quiet, bool verbose)
    : quiet_(quiet), verbose_(verbose), bar_(!quiet && is_terminal()), began_(Clock::now()) {}

void Progress::clear() {
  if (drawn_) std::fputs("\r\x1b[K", stderr);
  drawn_ = false;
}

void Progress::line(const std::string& text) {
  if (quiet_) return;
  clear();
  std::fputs((text + "\n").c_str(), stderr);
}

void Progress::stage(const std::string& name, std::int64_t total_steps) {
  stage_ = name;
  note_stage(name);
  began_ = last_ = Clock::now();
  if (verbose_ && !bar_) line(fmt::format("{}: {} steps", name, total_steps));
}

void Progress::step(std::int64_t done, std::int64_t total) {
  using namespace std::chrono_literals;
  const auto now = Clock::now();
  if (!bar_ || total <= 0 || (done < total && now - last_ < 100ms)) return;
  last_ = now;
  constexpr std::int64_t kCells = 30;
  const std::int64_t full = std::clamp<std::int64_t>(kCells * done / total, 0, kCells);
  const double spent = std::chrono::duration<double>(now - began_).count();
  const double left = done > 0 ? spent / static_cast<double>(done) * static_cast<double>(total - done) : 0;
  std::fputs(fmt::format("\r\x1b[K{} [{}{}] {}/{}, {} left", stage_, std::string(full, '#'),
                         std::string(kCells - full, '.'), done, total, duration_text(left))
                 .c_str(),
             stderr);
  std::fflush(stderr);
  drawn_ = true;
}

void Progress::epoch(const EpochMetrics& m) {
  std::string text = fmt::format("{:<6} epoch {:>3}", m.stage, m.epoch);
  if (m.stage == "train") text += fmt::format("  train loss {:.4f}", m.train_loss);
  text += fmt::format("  validation loss {:.4f} top1 {:.4f}", m.validation_loss, m.validation_top1);
  if (m.stage == "train") text += fmt::format("  lr {:.3g}", m.rate);
  text += fmt::format("  {:.1f} s", m.seconds);
  if (m.skipped_steps > 0) text += fmt::format("  ({} steps skipped: not finite)", m.skipped_steps);
  line(text);
}

void Progress::note(const std::string& text) { line(text); }

void Progress::warning(const std::string& text) {
  clear();
  const char* format = is_terminal() ? "\x1b[1;33mWARNING:\x1b[0m {}\n" : "WARNING: {}\n";
  std::fputs(fmt::format(fmt::runtime(format), text).c_str(), stderr);
}

}  // namespace recast
