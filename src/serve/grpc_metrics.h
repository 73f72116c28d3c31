#pragma once
#include <grpcpp/support/status.h>

#include <string_view>

#include "port_metrics.h"

namespace recast {

/// What the gRPC port counts: bytes are those of messages.
class GrpcMetrics : public PortMetrics {
 public:
  explicit GrpcMetrics(prometheus::Registry& registry);

  void opened() { open_.Increment(); }
  /// A call ended. `method`: one that there is, or "other".
  void closed(std::string_view method, grpc::StatusCode status, double seconds);

 private:
  prometheus::Gauge& open_;
};

}  // namespace recast
