#include "recast/serve/model_name.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "percent.h"
#include "recast/base/error.h"
#include "recast/format/printable.h"
#include "recast/format/utf8.h"
#include "recast/store/task_header.h"

namespace recast {
namespace {

constexpr std::size_t kMostSegmentBytes = 1024;

[[noreturn]] void refuse(std::string_view name, std::string_view what) {
  fail(Code::kInvalidArgument,
       "[model] '{}': {}; expected NAME, NAME:VERSION, NAME:TAG or BASE@ before one of them, each of A-Z a-z 0-9 . _ -",
       printable(name, 200), what);
}

/// A version's number, or a tag (never digits alone: check_tag() in the store).
void read_version(std::string_view text, std::string_view name, ModelName& model) {
  if (text.find_first_not_of("0123456789") != text.npos) {
    if (!is_task_name(text)) refuse(name, fmt::format("'{}' is neither a version nor a tag", printable(text)));
    model.tag = text;
    return;
  }
  std::int64_t version = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), version);
  if (error != std::errc() || version < 1 || text.front() == '0') {
    refuse(name, fmt::format("'{}' is no version; versions are 1, 2, ...", printable(text)));
  }
  model.version = version;
}

bool is_path_character(char c) {
  const bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  return word || std::string_view("-._~!$&'()*+,;=:@").find(c) != std::string_view::npos;
}

[[noreturn]] void refuse_segment(std::string_view segment, std::string_view what) {
  fail(Code::kInvalidArgument, "[url] '{}': {}", printable(segment, 200), what);
}

}  // namespace

std::string ModelName::text() const {
  if (mixed) return std::string(kMixedModel);
  std::string out = base.empty() ? task : base + "@" + task;
  if (version) return fmt::format("{}:{}", out, *version);
  return tag.empty() ? out : out + ":" + tag;
}

ModelName parse_model_name(std::string_view name, std::string_view version) {
  ModelName model;
  std::string_view task = name;
  if (const auto at = task.find('@'); at != task.npos) {
    model.base = task.substr(0, at);
    if (!is_task_name(model.base)) refuse(name, fmt::format("'{}' is no name of a base", printable(model.base)));
    task.remove_prefix(at + 1);
  }
  std::string_view inside;
  if (const auto colon = task.find(':'); colon != task.npos) {
    inside = task.substr(colon + 1);
    task = task.substr(0, colon);
    if (inside.empty()) refuse(name, "no version follows the colon");
  }
  if (!is_task_name(task)) refuse(name, fmt::format("'{}' is no name of a task", printable(task)));
  if (!inside.empty() && !version.empty() && inside != version) {
    refuse(name, fmt::format("asks for version '{}', and '{}' was asked for beside it", printable(inside),
                             printable(version)));
  }
  const std::string_view wanted = inside.empty() ? version : inside;
  model.mixed = model.base.empty() && task == kMixedModel;
  if (model.mixed) {
    if (wanted.empty()) return model;
    fail(Code::kNotFound, "[model] '{}': the model whose rows name their tasks has no versions; leave the version out",
         printable(name, 200));
  }
  model.task = task;
  if (!wanted.empty()) read_version(wanted, name, model);
  return model;
}

void name_model(InferenceRequest& request, std::string_view model, std::string_view version) {
  const auto differs = [](std::string_view body, std::string_view told) { return !body.empty() && body != told; };
  if (differs(request.model, model)) {
    fail(Code::kInvalidArgument, "[infer] model_name: is '{}', but '{}' was addressed; leave it out or say the same",
         printable(request.model), printable(model));
  }
  if (!version.empty() && differs(request.version, version)) {
    fail(Code::kInvalidArgument, "[infer] model_version: is '{}', but '{}' was addressed; leave it out or say the same",
         printable(request.version), printable(version));
  }
  request.model = model;
  if (!version.empty()) request.version = version;
}

std::string decode_path_segment(std::string_view segment) {
  if (segment.size() > kMostSegmentBytes) {
    fail(Code::kExhausted, "[url] a path segment of {} bytes; at most {} are accepted", segment.size(),
         kMostSegmentBytes);
  }
  if (!std::ranges::all_of(segment, [](char c) { return c == '%' || is_path_character(c); }))
    refuse_segment(segment, "a character that must be written as %XX");
  const std::optional<std::string> decoded = percent_decoded(segment);
  if (!decoded) refuse_segment(segment, "a % that two hexadecimal digits must follow");
  const std::string& out = *decoded;
  if (out.empty() || out == "." || out == "..") refuse_segment(segment, "expected a name");
  if (out.find_first_of("/\\") != out.npos) refuse_segment(segment, "holds a slash or backslash; expected a name");
  if (!is_utf8(out) || printable(out, out.size() + 1) != out) {
    refuse_segment(segment, "holds control characters, or is not UTF-8; expected a name");
  }
  return out;
}

}  // namespace recast
