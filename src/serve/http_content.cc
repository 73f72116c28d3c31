#include "http_content.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <string>

#include "base64.h"
#include "recast/base/error.h"
#include "recast/base/lower_case.h"
#include "recast/format/canonical_json.h"
#include "recast/format/printable.h"
#include "recast/serve/inference.h"

namespace recast {
namespace {

using nlohmann::json;

/// "application/json" of "Application/JSON; charset=UTF-8"; empty if it names a character set that is not taken.
std::string media_type(const std::string& field) {
  const std::string text = lower_case(field);
  const std::size_t semicolon = text.find(';');
  const std::size_t charset = text.find("charset=");
  if (charset != text.npos && text.compare(charset + 8, 5, "utf-8") != 0 &&
      text.compare(charset + 8, 7, "\"utf-8\"") != 0)
    return "";
  std::string type = text.substr(0, semicolon);
  while (!type.empty() && (type.back() == ' ' || type.back() == '\t')) type.pop_back();
  return type;
}

/// Without the port; nothing: what stands behind the host is none.
std::optional<std::string_view> without_port(std::string_view host) {
  const std::size_t end = host.starts_with('[') ? host.find(']') + 1 : std::min(host.find(':'), host.size());
  const std::string_view rest = host.substr(end);
  if (!rest.empty() && (rest[0] != ':' || rest.find_first_not_of("0123456789", 1) != rest.npos)) return std::nullopt;
  return host.substr(0, end);
}

bool is_address(int family, std::string_view text) {
  in6_addr address;  // has room for either
  return ::inet_pton(family, std::string(text).c_str(), &address) == 1;
}

}  // namespace

std::optional<std::string> host_name(std::string_view text) {
  std::string name = lower_case(text);
  if (name.ends_with('.')) name.pop_back();
  if (name.empty() || name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-._") != name.npos)
    return std::nullopt;
  return name;
}

bool names_this_server(const HttpHead& head, const std::vector<std::string>& allowed) {
  if (!head.host) return true;
  const std::optional<std::string_view> host = without_port(*head.host);
  if (!host) return false;
  if (host->starts_with('[')) return is_address(AF_INET6, host->substr(1, host->size() - 2));
  const std::optional<std::string> name = host_name(*host);
  if (!name) return false;
  return *name == "localhost" || name->ends_with(".localhost") || is_address(AF_INET, *name) ||
         std::ranges::find(allowed, *name) != allowed.end();
}

bool from_own_page(const HttpHead& head) {
  if (!head.origin) return true;
  const std::string origin = lower_case(*head.origin), host = lower_case(head.host.value_or(""));
  return origin == "http://" + host || origin == "https://" + host;
}

std::optional<HttpRefusal> check_content_fields(const HttpHead& head, bool infers,
                                                std::optional<std::size_t>& json_bytes) {
  if (head.content_encoding && lower_case(*head.content_encoding) != "identity")
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

CorrectionBody read_correction(std::string_view body) {
  const json request = read_small_body(body);
  const auto expected = [](std::string_view key, std::string_view what, const json& got) {
    fail(Code::kInvalidArgument, "[http] {}: expected {}, got {}", key, what,
         got.is_null() ? "nothing" : got.type_name());
  };
  CorrectionBody correction;
  std::optional<std::string> image;
  for (const char* key : {"label", "image"})
    if (const auto found = request.find(key); found == request.end() || !found->is_string())
      expected(key, "a text", found == request.end() ? json() : *found);
  for (const auto& [key, value] : request.items()) {
    if (key == "label") {
      correction.label = value.get<std::string>();
    } else if (key == "image") {
      image = decode_base64(value.get_ref<const std::string&>());
    } else if (key == "new_label") {
      if (!value.is_boolean()) expected(key, "true or false", value);
      correction.new_label = value.get<bool>();
    } else {
      fail(Code::kInvalidArgument, "[http] a correction has no '{}', only label, image and new_label", printable(key));
    }
  }
  if (!image) fail(Code::kInvalidArgument, "[http] image: is no padded base64 without line breaks");
  if (image->size() > kMostImageBytes)
    fail(Code::kExhausted, "[http] image: {} bytes, at most {} are taken", image->size(), kMostImageBytes);
  correction.image = std::move(*image);
  return correction;
}

}  // namespace recast
