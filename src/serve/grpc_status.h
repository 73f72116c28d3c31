#pragma once
#include <grpcpp/support/status.h>

#include <string_view>

#include "recast/base/error.h"

namespace recast {

/// The status of a call that ended with this code, as the table of errors has one for HTTP.
grpc::StatusCode grpc_status(Code code);
/// "INVALID_ARGUMENT", as gRPC's documents have it.
std::string_view status_name(grpc::StatusCode status);
/// Of what is being handled in a catch block: its code and what a client may read of it.
grpc::Status status_of_current_exception() noexcept;

}  // namespace recast
