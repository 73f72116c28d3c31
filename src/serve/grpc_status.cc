#include "grpc_status.h"

#include "grpc_methods.h"
#include "public_error.h"
#include "recast/format/printable.h"

namespace recast {

grpc::StatusCode grpc_status(Code code) {
  switch (code) {
    case Code::kInvalidArgument:
      return grpc::StatusCode::INVALID_ARGUMENT;
    case Code::kNotFound:
      return grpc::StatusCode::NOT_FOUND;
    case Code::kAlreadyExists:
      return grpc::StatusCode::ALREADY_EXISTS;
    case Code::kShapeMismatch:
      return grpc::StatusCode::INVALID_ARGUMENT;
    case Code::kDataCorruption:
      return grpc::StatusCode::DATA_LOSS;
    case Code::kUnsupported:
      return grpc::StatusCode::UNIMPLEMENTED;
    case Code::kExhausted:
      return grpc::StatusCode::RESOURCE_EXHAUSTED;
    case Code::kUnavailable:
      return grpc::StatusCode::UNAVAILABLE;
    case Code::kCancelled:
      return grpc::StatusCode::CANCELLED;
    case Code::kInternal:
      return grpc::StatusCode::INTERNAL;
  }
  return grpc::StatusCode::UNKNOWN;
}

grpc::Status status_of_current_exception() noexcept {
  try {
    throw;
  } catch (const NotAllowed& refused) {
    return {grpc::StatusCode::PERMISSION_DENIED, refused.what()};
  } catch (...) {
    const PublicError error = public_error();
    // Clients refuse headers of more than 8 KiB, and this becomes a header in which a byte may take three.
    return {grpc_status(error.code), printable(error.message, 2000)};
  }
}

}  // namespace recast
