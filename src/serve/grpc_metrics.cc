#include "grpc_metrics.h"

#include "grpc_status.h"

namespace recast {

GrpcMetrics::GrpcMetrics(prometheus::Registry& registry)
    : PortMetrics(registry, "recast_grpc_"),
      open_(prometheus::BuildGauge()
                .Name("recast_grpc_calls_open")
                .Help("Calls that are open.")
                .Register(registry)
                .Add({})) {}

void GrpcMetrics::closed(std::string_view method, grpc::StatusCode status, double seconds) {
  const prometheus::Labels asked = {{"method", std::string(method)}};
  answered(asked, std::string(status_name(status)), asked, seconds);
  open_.Decrement();
}

}  // namespace recast
