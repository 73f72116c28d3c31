#pragma once
#include <string>
#include <string_view>

namespace recast {

/// What a request is called in logs, here and elsewhere.
struct RequestMarks {
  std::string id;
  std::string trace, span;  ///< 32 and 16 hexadecimal digits; empty: none
};

/// `request_id`: what the client calls it (X-Request-Id); anything but 1 to 128 of A-Z a-z 0-9 . _ : @ / + = - counts
/// as nothing, and it gets a name that no other has. `traceparent`: as W3C's Trace Context has it, version 00 or later;
/// a malformed one counts as none.
RequestMarks request_marks(std::string_view request_id, std::string_view traceparent);

}  // namespace recast
