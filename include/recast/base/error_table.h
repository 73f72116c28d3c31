#pragma once
#include <span>
#include <string>
#include <string_view>

#include "recast/base/error.h"

namespace recast {

/// One way in which users meet a code, and what helps.
struct ErrorCause {
  std::string_view cause, remedy;
};

/// All that is fixed about one code: the one table behind name(), exit_status(), `recast errors` and docs/errors.md.
struct ErrorEntry {
  Code code;
  std::string_view name;       ///< on the wire and in JSON
  int exit_status;             ///< of a command
  int http_status;             ///< of a request
  std::string_view exception;  ///< Python's nearest built-in exception
  std::string_view meaning;
  std::span<const ErrorCause> causes;
};

/// In the order of Code.
std::span<const ErrorEntry> error_table();
const ErrorEntry& error_entry(Code code);
/// docs/errors.md, made from the table.
std::string error_page();

}  // namespace recast
