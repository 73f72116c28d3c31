#pragma once
#include <string>
#include <string_view>

namespace recast {

/// What a client calls a request in its logs; empty: nothing.
struct RequestMarks {
  std::string id;           ///< 1 to 128 of A-Z a-z 0-9 . _ : @ / + = -
  std::string trace, span;  ///< 32 and 16 hexadecimal digits, both or neither
};

/// `request_id`: X-Request-Id; anything but such an id counts as none. `traceparent`: as W3C's Trace Context has it,
/// version 00 or later; a malformed one counts as none.
RequestMarks request_marks(std::string_view request_id, std::string_view traceparent);

}  // namespace recast
