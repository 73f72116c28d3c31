#include "recast/base/log.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <ctime>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>

#include "recast/base/error.h"

namespace recast {
namespace {

constexpr std::string_view kLevels[] = {"debug", "info", "warn", "error", "off"};

struct Installed {
  std::atomic<LogLevel> lowest{LogLevel::kOff};
  std::mutex mutex;
  std::shared_ptr<const LogSink> sink;
};

/// Never destroyed: threads of other libraries may outlive main().
Installed& installed() {
  static auto* const kInstalled = new Installed;
  return *kInstalled;
}

nlohmann::json as_json(const LogField::Value& value) {
  return std::visit([](const auto& held) { return nlohmann::json(held); }, value);
}

/// Quoted and escaped, with no byte outside ASCII: nothing that a terminal or a reader of lines could obey is left.
std::string ascii(const nlohmann::json& value) {
  return value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
}

bool is_plain(std::string_view text) {
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/:+,@%";
  return !text.empty() && text.find_first_not_of(kPlain) == text.npos;
}

std::string as_text(const LogField::Value& value) {
  if (const auto* text = std::get_if<std::string_view>(&value))
    return is_plain(*text) ? std::string(*text) : ascii(*text);
  if (const auto* number = std::get_if<double>(&value)) return fmt::format("{:.6g}", *number);
  return ascii(as_json(value));
}

std::string time_text(std::int64_t unix_ms) {
  const std::time_t seconds = unix_ms / 1000;
  std::tm utc{};
  ::gmtime_r(&seconds, &utc);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday,
                     utc.tm_hour, utc.tm_min, utc.tm_sec, unix_ms % 1000);
}

std::int64_t now_unix_ms() {
  using namespace std::chrono;
  return duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
}

struct Descriptor {
  explicit Descriptor(int opened) : number(opened) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { ::close(number); }
  const int number;
};

}  // namespace

std::string_view name(LogLevel level) { return kLevels[static_cast<std::size_t>(level)]; }

LogLevel parse_log_level(std::string_view text) {
  for (std::size_t i = 0; i < std::size(kLevels); ++i)
    if (text == kLevels[i]) return static_cast<LogLevel>(i);
  fail(Code::kInvalidArgument, "[log] level must be {}, got '{}'", fmt::join(kLevels, ", "), text);
}

LogFormat parse_log_format(std::string_view text) {
  if (text == "text") return LogFormat::kText;
  if (text == "json") return LogFormat::kJson;
  fail(Code::kInvalidArgument, "[log] format must be text or json, got '{}'", text);
}

void set_log(LogLevel lowest, LogSink sink) {
  Installed& log = installed();
  auto kept = sink ? std::make_shared<const LogSink>(std::move(sink)) : nullptr;
  const std::lock_guard lock(log.mutex);
  log.lowest.store(kept ? lowest : LogLevel::kOff, std::memory_order_relaxed);
  log.sink = std::move(kept);
}

bool logs(LogLevel level) noexcept {
  return level != LogLevel::kOff && level >= installed().lowest.load(std::memory_order_relaxed);
}

void log_event(LogLevel level, std::string_view event, std::initializer_list<LogField> fields) noexcept {
  if (!logs(level)) return;
  try {
    std::shared_ptr<const LogSink> sink;
    {
      const std::lock_guard lock(installed().mutex);
      sink = installed().sink;
    }
    if (sink) (*sink)({level, event, {fields.begin(), fields.size()}});
  } catch (...) {
    // The run matters more than its log.
  }
}

std::string log_line(const LogEvent& event, LogFormat format, std::int64_t unix_ms) {
  if (format == LogFormat::kText) {
    std::string line = fmt::format("{} {} {}", time_text(unix_ms), name(event.level), event.name);
    for (const LogField& field : event.fields) line += fmt::format(" {}={}", field.key, as_text(field.value));
    return line + "\n";
  }
  nlohmann::ordered_json line = {{"time", time_text(unix_ms)}, {"level", name(event.level)}, {"event", event.name}};
  for (const LogField& field : event.fields) line[std::string(field.key)] = as_json(field.value);
  return line.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace) + "\n";
}

LogSink log_to(int descriptor, LogFormat format) {
  return [=](const LogEvent& event) {
    const std::string line = log_line(event, format, now_unix_ms());
    [[maybe_unused]] const auto written = ::write(descriptor, line.data(), line.size());
  };
}

LogSink log_to(const std::filesystem::path& file, LogFormat format) {
  const int opened = ::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (opened < 0)
    fail(Code::kUnavailable, "[log] {}: {}; choose another file for --log", file.string(), std::strerror(errno));
  return [kept = std::make_shared<const Descriptor>(opened), write = log_to(opened, format)](const LogEvent& event) {
    write(event);
  };
}

}  // namespace recast
