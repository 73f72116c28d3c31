#pragma once
#include <cstddef>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "http_parser.h"

namespace recast {

// What of a request's content is judged without the service; knows neither sockets nor metrics, so that a fuzz target
// links little. All functions are pure.

/// Why a body that comes by POST is not taken, as its header says it; nothing: it is. Of an inference, `json_bytes`
/// becomes the field Inference-Header-Content-Length, where there is one.
std::optional<HttpRefusal> check_content_fields(const HttpHead& head, bool infers,
                                                std::optional<std::size_t>& json_bytes);

/// Whether a request names who it is for by a number, as localhost or a name below it, or by one of `allowed` (as
/// host_name() has them). Under any other name a browser may show anybody's page, since whoever owns the name says at
/// any time what it stands for (DNS rebinding). What has no Host (HTTP/1.0) comes from no page.
bool names_this_server(const HttpHead& head, const std::vector<std::string>& allowed);

/// "Recast.Example." as names are compared: in lower case, without the dot that ends a full name. Nothing: it is no
/// name of a host.
std::optional<std::string> host_name(std::string_view text);

/// Whether a request comes from no page, or from one that was opened under the name that the request has for this
/// server: worth what names_this_server() says of the name.
bool from_own_page(const HttpHead& head);

/// The body of index, load or unload: nothing, or one JSON object. Throws kInvalidArgument.
nlohmann::json read_small_body(std::string_view body);
/// Its "parameters", an object of texts, numbers and booleans; empty where there are none. Throws kInvalidArgument.
nlohmann::json small_body_parameters(const nlohmann::json& body);

/// What the body of a correction says.
struct CorrectionBody {
  std::string label, image;
  bool new_label = false;  ///< the label may be one that the task does not have yet
};
/// {"label": text, "image": base64, "new_label": boolean, false unless given}.
/// Throws  kInvalidArgument: anything else;  kExhausted: the image has more than kMostImageBytes.
CorrectionBody read_correction(std::string_view body);

}  // namespace recast
