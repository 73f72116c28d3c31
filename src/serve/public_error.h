#pragma once
#include <chrono>
#include <string>

#include "recast/base/error.h"

namespace recast {

/// When to try again what is kUnavailable now.
inline constexpr std::chrono::seconds kRetryAfter{1};

/// A failure as a client may read it.
struct PublicError {
  Code code;
  int http_status;
  std::string message;  ///< one line
};

/// Of what is being handled in a catch block. An Error keeps its code, and its message unless that is for this
/// machine's owner only (a path of the file system, a damaged file, our own bug): then the message goes to the log as
/// `serve.failed` (a RationedEvent), and the client reads that it did. Want of memory is kUnavailable, anything else
/// kInternal.
PublicError public_error() noexcept;

/// What `read` gives of bytes that came with a request: where they are damaged, kInvalidArgument is thrown instead of
/// kDataCorruption, which speaks of a file on this machine.
template <class Read>
auto read_of_caller(Read read) {
  try {
    return read();
  } catch (const Error& error) {
    if (error.code() != Code::kDataCorruption) throw;
    throw Error(Code::kInvalidArgument, error.what());
  }
}

}  // namespace recast
