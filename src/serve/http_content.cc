#include "http_content.h"

#include <charconv>
#include <string>

#include "recast/base/error.h"
#include "recast/format/canonical_json.h"

namespace recast {
namespace {

using nlohmann::json;

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

/// "application/json" of "Application/JSON; charset=UTF-8"; empty if it names a character set that is not taken.
std::string media_type(const std::string& field) {
  const std::string text = lower(field);
  const std::size_t semicolon = text.find(';');
  const std::size_t charset = text.find("charset=");
  if (charset != text.npos && text.compare(charset + 8, 5, "utf-8") != 0 &&
      text.compare(charset + 8, 7, "\"utf-8\"") != 0)
    return "";
  std::string type = text.substr(0, semicolon);
  while (!type.empty() && (type.back() == ' ' || type.back() == '\t')) type.pop_back();
  return type;
}

}  // namespace

std::optional<HttpRefusal> check_content_fields(const HttpHead& head, bool infers,
                                                std::optional<std::size_t>& json_bytes) {
  if (head.content_encoding && lower(*head.content_encoding) != "identity")
    return HttpRefusal{415, "compressed bodies are not taken: send it without Content-Encoding"};
  if (head.content_type) {
    const std::string type = media_type(*head.content_type);
    // The last two are what aiohttp (in Triton's asyncio client) and curl call a body that nobody described.
    if (type != "application/json" && type != "application/octet-stream" && type != "text/plain" &&
        type != "application/x-www-form-urlencoded")
      return HttpRefusal{415,
                         "Content-Type must be application/json, or application/octet-stream where binary tensors "
                         "follow the JSON"};
  }
  if (!infers) return std::nullopt;
  if (!head.length && !head.chunked) return HttpRefusal{411, "an inference needs a body and its Content-Length"};
  if (head.inference_length) {
    std::size_t bytes = 0;
    const char* const end = head.inference_length->data() + head.inference_length->size();
    const auto [stop, error] = std::from_chars(head.inference_length->data(), end, bytes);
    if (error != std::errc() || stop != end)
      return HttpRefusal{400, "Inference-Header-Content-Length must be a number of bytes"};
    json_bytes = bytes;
  }
  return std::nullopt;
}

json read_small_body(std::string_view body) {
  if (body.find_first_not_of(" \t\r\n") == body.npos) return json::object();
  json value;
  try {
    value = parse_json(body, "[http] body", {.depth = 32, .values = 1'000});
  } catch (const Error& error) {
    throw Error(Code::kInvalidArgument, error.what());
  }
  if (!value.is_object())
    fail(Code::kInvalidArgument, "[http] body: expected a JSON object, got {}", value.type_name());
  return value;
}

json small_body_parameters(const json& body) {
  const auto found = body.find("parameters");
  if (found == body.end()) return json::object();
  if (!found->is_object())
    fail(Code::kInvalidArgument, "[http] parameters: expected an object, got {}", found->type_name());
  for (const auto& [key, value] : found->items())
    if (value.is_structured() || value.is_null())
      fail(Code::kInvalidArgument, "[http] parameters: expected texts, numbers or booleans, got {}", value.type_name());
  return *found;
}

}  // namespace recast
