#pragma once
#include <grpcpp/support/status.h>

#include "recast/base/error.h"

namespace recast {

/// The status of a call that ended with this code, as the table of errors has one for HTTP.
grpc::StatusCode grpc_status(Code code);
/// Of what is being handled in a catch block: its code and what a client may read of it.
grpc::Status status_of_current_exception() noexcept;

}  // namespace recast
