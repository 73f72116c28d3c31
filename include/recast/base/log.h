#pragma once
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>

namespace recast {

enum class LogLevel { kDebug, kInfo, kWarn, kError, kOff };
/// "debug", "info", "warn", "error", "off".
std::string_view name(LogLevel level);
/// Throws kInvalidArgument.
LogLevel parse_log_level(std::string_view text);

/// One typed field of an event. Keeps a view of the key and of a text: both must live until log_event() returns.
struct LogField {
  using Value = std::variant<std::int64_t, double, bool, std::string_view>;

  template <class T>
  LogField(std::string_view field, const T& what) : key(field), value(as_value(what)) {}

  std::string_view key;  ///< snake_case
  Value value;

 private:
  template <class T>
  static Value as_value(const T& what) {
    if constexpr (std::is_same_v<T, bool>)
      return what;
    else if constexpr (std::is_integral_v<T>)
      return static_cast<std::int64_t>(what);
    else if constexpr (std::is_floating_point_v<T>)
      return static_cast<double>(what);
    else
      return std::string_view(what);
  }
};

/// What happened: a name such as `task.saved` and fields, no prose. Lives while a sink is called.
struct LogEvent {
  LogLevel level;
  std::string_view name;
  std::span<const LogField> fields;
};

/// Gets the events, from any thread and several at once. What it throws is dropped: a log never ends a run.
using LogSink = std::function<void(const LogEvent&)>;

/// Events of `lowest` and above go to `sink` from now on; an empty sink: none, which is how every process begins.
/// Threads: any. A call of the old sink that is under way ends on its own.
void set_log(LogLevel lowest, LogSink sink);
/// Whether an event of this level would reach a sink. One relaxed load.
bool logs(LogLevel level) noexcept;
/// Hands an event to the sink if its level is wanted: `log_event(LogLevel::kInfo, "task.saved", {{"task", name},
/// ...})`. Where a field costs something to make, ask logs() first.
void log_event(LogLevel level, std::string_view event, std::initializer_list<LogField> fields) noexcept;

/// For fields such as `ms`.
class Stopwatch {
 public:
  double ms() const {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - began_).count();
  }

 private:
  std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
};

enum class LogFormat { kText, kJson };
/// "text" or "json". Throws kInvalidArgument.
LogFormat parse_log_format(std::string_view text);

/// An event as one line with its line feed, ASCII only, whatever its fields hold:
/// text  `2026-01-31T23:59:59.123Z info task.saved task=cars version=3 ms=1.8`; a text that is not made of letters,
///       digits and `._-/:+,@%` alone stands in quotes, escaped as JSON escapes it;
/// JSON  {"time": ..., "level": ..., "event": ..., and the fields}.
/// `unix_ms`: milliseconds since 1970, UTC.
std::string log_line(const LogEvent& event, LogFormat format, std::int64_t unix_ms);

/// A sink that appends lines to an open descriptor, each in one write() so that processes can share a file. The
/// descriptor stays the caller's.
LogSink log_to(int descriptor, LogFormat format);
/// A sink that appends to a file, created with mode 0600 where it is absent. Throws kUnavailable.
LogSink log_to(const std::filesystem::path& file, LogFormat format);

}  // namespace recast
