#include "request_marks.h"

namespace recast {
namespace {

constexpr std::size_t kMostIdBytes = 128;

bool is_hex(std::string_view text) { return text.find_first_not_of("0123456789abcdef") == text.npos; }
bool is_zero(std::string_view text) { return text.find_first_not_of('0') == text.npos; }

bool is_id(std::string_view text) {
  constexpr std::string_view kSigns = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:@/+=-";
  return !text.empty() && text.size() <= kMostIdBytes && text.find_first_not_of(kSigns) == text.npos;
}

}  // namespace

RequestMarks request_marks(std::string_view request_id, std::string_view traceparent) {
  RequestMarks marks{std::string(is_id(request_id) ? request_id : ""), {}, {}};
  // version "-" trace "-" span "-" flags; later versions may go on behind another "-".
  constexpr std::size_t kTrace = 3, kSpan = 36, kFlags = 53, kEnd = 55;
  if (traceparent.size() < kEnd || traceparent[kTrace - 1] != '-' || traceparent[kSpan - 1] != '-' ||
      traceparent[kFlags - 1] != '-')
    return marks;
  const std::string_view version = traceparent.substr(0, 2), trace = traceparent.substr(kTrace, 32),
                         span = traceparent.substr(kSpan, 16), flags = traceparent.substr(kFlags, 2);
  const bool ends = traceparent.size() == kEnd || (version != "00" && traceparent[kEnd] == '-');
  if (!ends || version == "ff" || !is_hex(version) || !is_hex(trace) || !is_hex(span) || !is_hex(flags) ||
      is_zero(trace) || is_zero(span))
    return marks;
  marks.trace = trace;
  marks.span = span;
  return marks;
}

}  // namespace recast
