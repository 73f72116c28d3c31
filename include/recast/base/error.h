#pragma once
#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace recast {

/// What went wrong, in ten kinds. On the wire and in JSON the name is snake_case: `not_found`.
enum class Code {
  kInvalidArgument,  ///< a flag, option, name or call that cannot be right whatever the files hold
  kNotFound,         ///< a path, task, class or plug-in's number that is not there
  kAlreadyExists,    ///< would overwrite what exists
  kShapeMismatch,    ///< numbers that do not fit where they should go
  kDataCorruption,   ///< a file that is cut off, damaged or lies about itself
  kUnsupported,      ///< understood, and not done here; also content of the wrong kind
  kExhausted,        ///< a limit on memory, bytes or counts
  kUnavailable,      ///< a disk, database or device out of reach
  kCancelled,        ///< stopped on request
  kInternal,         ///< our own fault
};

/// Thrown for everything that ends a request. `what()` is one line: what was wrong, what was expected, what to do.
class Error : public std::runtime_error {
 public:
  Error(Code code, const std::string& message) : std::runtime_error(message), code_(code) {}
  Code code() const { return code_; }

 private:
  Code code_;
};

/// `fail(Code::kNotFound, "[import] {}: no such file", path)`.
template <class... Args>
[[noreturn]] void fail(Code code, fmt::format_string<Args...> text, Args&&... args) {
  throw Error(code, fmt::format(text, std::forward<Args>(args)...));
}

std::string_view name(Code code);
/// Exit status of a command that ended with this code (design: 2 usage, 3 content, 4 missing, 5 corrupt, 130
/// cancelled).
int exit_status(Code code);

/// The candidate nearest to `word` by edit distance, or empty if none is near enough to suggest.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace recast

/// For our own bugs only: never reachable from a file, a request or a flag.
#define RECAST_ASSERT(condition)                                                                              \
  do {                                                                                                        \
    if (!(condition)) ::recast::fail(::recast::Code::kInternal, "{}:{}: {}", __FILE__, __LINE__, #condition); \
  } while (false)
