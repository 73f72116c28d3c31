#pragma once
#include <string>

#include "recast/serve/http_server.h"

namespace recast {

/// The OpenAPI 3.1 document of a port with these options, as GET /v2/openapi.json gives it. `tokens`: whether it asks
/// for them.
std::string openapi_document(const HttpOptions& options, bool tokens);

}  // namespace recast
