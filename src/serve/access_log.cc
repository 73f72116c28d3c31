#include "recast/serve/access_log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <prometheus/counter.h>
#include <prometheus/registry.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "recast/base/error.h"
#include "recast/base/log.h"
#include "recast/base/random_hex.h"
#include "recast/format/printable.h"
#include "request_marks.h"

namespace recast {
namespace {

using Clock = std::chrono::steady_clock;

/// Longer texts are cut: a line then stays below PIPE_BUF, so that a pipe takes it whole or not at all.
/// Names of models and tasks fit: base and task or tag have 128 bytes each, the name of a base that is alone 255.
constexpr std::size_t kMostTextBytes = 256, kMostNameBytes = 512;
constexpr auto kLastWords = std::chrono::seconds(1);
constexpr int kLookMs = 100;

std::int64_t unix_ms() {
  using namespace std::chrono;
  return duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
}

double as_ms(std::int64_t ns) { return static_cast<double>(ns) / 1e6; }
/// To the microsecond: more digits are noise.
double rounded(double ms) { return std::round(ms * 1e3) / 1e3; }

std::string line_of(const AccessEntry& entry, std::int64_t time) {
  std::vector<LogField> fields;
  const auto text = [&](std::string_view key, std::string_view value, std::size_t most = kMostTextBytes) {
    if (!value.empty()) fields.emplace_back(key, value.substr(0, most));
  };
  text("id", entry.id);
  text("trace", entry.trace);
  text("span", entry.span);
  text("protocol", entry.protocol);
  text("method", entry.method);
  text("route", entry.route);
  text("model", entry.model, kMostNameBytes);
  if (entry.account.rows > 0) {
    text("tasks", entry.account.tasks, kMostNameBytes);
    fields.emplace_back("rows", entry.account.rows);
    fields.emplace_back("queue_ms", rounded(as_ms(entry.account.queue_ns)));
    fields.emplace_back("compute_ms", rounded(as_ms(entry.account.compute_ns)));
  }
  fields.emplace_back("status", entry.status);
  fields.emplace_back("complete", entry.complete);
  fields.emplace_back("received", entry.received);
  fields.emplace_back("sent", entry.sent);
  fields.emplace_back("ms", rounded(entry.ms));
  text("caller", entry.caller);
  text("peer", entry.peer);
  return log_line({LogLevel::kInfo, "request", fields}, LogFormat::kJson, time);
}

/// Where lines go.
class Sink {
 public:
  explicit Sink(const std::string& file) : owned_(file != "-") {
    if (owned_) {
      // O_NONBLOCK: of a named pipe; files do not know it.
      descriptor_ = ::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
      if (descriptor_ < 0)
        fail(Code::kUnavailable, "[access-log] {}: {}; choose another file for --access-log", printable(file, 300),
             std::generic_category().message(errno));
    }
    is_file_ = ::fstat(descriptor_, &status_) == 0 && S_ISREG(status_.st_mode);
  }
  Sink(const Sink&) = delete;
  Sink& operator=(const Sink&) = delete;
  ~Sink() {
    if (owned_) ::close(descriptor_);
  }

  bool is_same_file(const Sink& other) const {
    return status_.st_dev == other.status_.st_dev && status_.st_ino == other.status_.st_ino;
  }
  /// Whether a write would be taken now; waits a little for it.
  bool takes() const {
    pollfd ready{descriptor_, POLLOUT, 0};
    return is_file_ || ::poll(&ready, 1, kLookMs) == 1;
  }
  /// How many of the bytes were taken; less: errno tells why.
  std::size_t write(std::string_view bytes) const {
    std::size_t taken = 0;
    while (taken < bytes.size()) {
      const ssize_t put = ::write(descriptor_, bytes.data() + taken, bytes.size() - taken);
      if (put < 0 && errno == EINTR) continue;
      if (put <= 0) break;
      taken += static_cast<std::size_t>(put);
    }
    return taken;
  }

 private:
  const bool owned_;
  int descriptor_ = STDERR_FILENO;
  struct stat status_ {};
  bool is_file_ = false;
};

}  // namespace

class AccessLog::Writer {
 public:
  Writer(std::string file, prometheus::Registry& registry, std::size_t most_waiting)
      : file_(std::move(file)),
        most_waiting_(most_waiting),
        sink_(std::make_unique<Sink>(file_)),
        lines_(prometheus::BuildCounter()
                   .Name("recast_access_log_lines_total")
                   .Help("Lines of the access log, by what became of them")
                   .Register(registry)),
        written_(lines_.Add({{"outcome", "written"}})),
        dropped_(lines_.Add({{"outcome", "dropped"}})),
        failed_(lines_.Add({{"outcome", "failed"}})),
        thread_([this] { run(); }) {}
  ~Writer() {
    {
      const std::lock_guard lock(mutex_);
      end_ = Clock::now() + kLastWords;
    }
    changed_.notify_all();
    thread_.join();
  }

  void add(AccessEntry entry) noexcept {
    try {
      const std::int64_t now = unix_ms();
      bool wake = false;
      {
        const std::lock_guard lock(mutex_);
        if (waiting_.size() < most_waiting_) {
          wake = waiting_.empty();
          waiting_.emplace_back(now, std::move(entry));
        } else {
          dropped_.Increment();
        }
      }
      if (wake) changed_.notify_one();
    } catch (...) {  // no memory
      dropped_.Increment();
    }
  }
  void reopen() {
    {
      const std::lock_guard lock(mutex_);
      reopen_ = file_ != "-";
    }
    changed_.notify_one();
  }

 private:
  using Waiting = std::deque<std::pair<std::int64_t, AccessEntry>>;
  enum class Taken { kYes, kLater, kNo };

  void run() {
    // A reader that is gone is told by the write.
    sigset_t pipe;
    ::sigemptyset(&pipe);
    ::sigaddset(&pipe, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
    for (;;) {
      Waiting lines;
      bool anew = false;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return !waiting_.empty() || reopen_ || end_; });
        lines.swap(waiting_);
        anew = std::exchange(reopen_, false);
        if (lines.empty() && !anew) return;
      }
      if (anew) open_again();
      for (const auto& [time, entry] : lines) {
        if (stuck_)  // at the end, and nobody reads
          failed_.Increment();
        else
          write(time, entry);
      }
    }
  }

  void open_again() {
    try {
      auto anew = std::make_unique<Sink>(file_);
      torn_ = torn_ && anew->is_same_file(*sink_);
      sink_ = std::move(anew);
    } catch (const std::exception& error) {
      log_event(LogLevel::kWarn, "access_log.kept_old", {{"reason", std::string_view(error.what())}});
    }
  }

  void write(std::int64_t time, const AccessEntry& entry) {
    Taken taken = Taken::kNo;
    int error = ENOMEM;
    try {
      const std::string line = line_of(entry, time);
      do {
        taken = sink_->takes() ? put(line) : Taken::kLater;
        error = errno;
        stuck_ = taken == Taken::kLater && is_late();
      } while (taken == Taken::kLater && !stuck_);
    } catch (const std::exception&) {
    }
    if (taken == Taken::kYes) {
      written_.Increment();
      failing_ = false;
      return;
    }
    failed_.Increment();
    if (std::exchange(failing_, true)) return;
    log_event(LogLevel::kWarn, "access_log.failed",
              {{"file", file_}, {"error", std::generic_category().message(error)}});
  }

  /// A line that a full disk cut short ends where it was cut, and the next one begins a line of its own.
  Taken put(const std::string& line) {
    if (torn_ && sink_->write("\n") != 1) return errno == EAGAIN ? Taken::kLater : Taken::kNo;
    torn_ = false;
    const std::size_t taken = sink_->write(line);
    if (taken == line.size()) return Taken::kYes;
    if (taken == 0) return errno == EAGAIN ? Taken::kLater : Taken::kNo;
    torn_ = true;
    return Taken::kNo;
  }

  bool is_late() {
    const std::lock_guard lock(mutex_);
    return end_ && Clock::now() > *end_;
  }

  const std::string file_;
  const std::size_t most_waiting_;
  std::unique_ptr<Sink> sink_;  // of the thread, as are the next three
  bool torn_ = false;           // the last line has no end
  bool failing_ = false;        // the last line was lost
  bool stuck_ = false;
  prometheus::Family<prometheus::Counter>& lines_;
  prometheus::Counter &written_, &dropped_, &failed_;

  std::mutex mutex_;  // of what follows
  std::condition_variable changed_;
  Waiting waiting_;
  bool reopen_ = false;
  std::optional<Clock::time_point> end_;
  std::thread thread_;  // last: it uses the rest
};

AccessLog::AccessLog(std::string file, prometheus::Registry& registry, std::size_t most_waiting)
    : process_(random_hex(8)), writer_(std::make_unique<Writer>(std::move(file), registry, most_waiting)) {}
AccessLog::~AccessLog() = default;

AccessEntry AccessLog::begin(std::string_view protocol, std::string_view request_id, std::string_view traceparent,
                             std::string peer) {
  RequestMarks marks = request_marks(request_id, traceparent);
  if (marks.id.empty()) marks.id = fmt::format("{}-{:x}", process_, ++begun_);
  AccessEntry entry;
  entry.id = std::move(marks.id);
  entry.trace = std::move(marks.trace);
  entry.span = std::move(marks.span);
  entry.protocol = protocol;
  entry.peer = std::move(peer);
  return entry;
}

void AccessLog::add(AccessEntry entry) noexcept { writer_->add(std::move(entry)); }
void AccessLog::reopen() { writer_->reopen(); }

}  // namespace recast
