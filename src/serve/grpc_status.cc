#include "grpc_status.h"

#include <array>

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

std::string_view status_name(grpc::StatusCode status) {
  static constexpr std::array<std::string_view, 17> kNames = {
      "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
      "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
      "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
      "DATA_LOSS", "UNAUTHENTICATED"};
  const auto number = static_cast<std::size_t>(status);
  return number < kNames.size() ? kNames[number] : "UNKNOWN";
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
