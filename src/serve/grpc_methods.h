#pragma once
#include <google/protobuf/message.h>

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

#include "caller.h"
#include "grpc_messages.h"
#include "recast/serve/service.h"

namespace recast {

/// How a method is answered.
enum class GrpcKind {
  kImmediate,  ///< from memory
  kReading,    ///< may wait for the store: by a thread that may wait
  kInfer,
  kStream  ///< inferences, one after the other
};

/// What all answers are made from.
struct GrpcAsked {
  Service& service;
  bool ready;  ///< false: the server is about to go
  const Caller& caller;
  const OpenStream& message;
  std::string& model;  ///< for who keeps accounts: what the message names
};

struct GrpcMethod {
  std::string_view path;       ///< "/inference.GRPCInferenceService/ServerLive"
  std::optional<Right> right;  ///< nothing: open to all
  GrpcKind kind;
  /// Null for inferences. Throws Error, NotAllowed.
  std::unique_ptr<google::protobuf::Message> (*answer)(const GrpcAsked&);
};

/// All that are served. The table is what decides who may call what: a method that is not in it does not exist.
std::span<const GrpcMethod> grpc_methods();
/// Null: there is no such method.
const GrpcMethod* find_grpc_method(std::string_view path);

/// The most bytes that a message may have which is no inference.
inline constexpr std::int64_t kSmallMessageBytes = 64 << 10;

/// Known, and not for this caller.
class NotAllowed : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};
/// Throws NotAllowed; kInvalidArgument: no name of a model.
void check_may_use(const Caller& caller, const std::string& model, const std::string& version);

}  // namespace recast
