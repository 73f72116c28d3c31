#include "port_metrics.h"

#include <utility>

namespace recast {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildHistogram;

/// Seconds; from what a metadata call takes to the default deadline.
prometheus::Histogram::BucketBoundaries buckets() {
  return {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60};
}

}  // namespace

PortMetrics::PortMetrics(prometheus::Registry& registry, const std::string& prefix)
    : requests_(BuildCounter()
                    .Name(prefix + "requests_total")
                    .Help("Requests answered, by what was asked for and status.")
                    .Register(registry)),
      seconds_(BuildHistogram()
                   .Name(prefix + "request_seconds")
                   .Help("From the end of a request's header to the last byte of its answer.")
                   .Register(registry)),
      received_(BuildCounter()
                    .Name(prefix + "received_bytes_total")
                    .Help("Bytes of requests, without TLS.")
                    .Register(registry)
                    .Add({})),
      sent_(BuildCounter()
                .Name(prefix + "sent_bytes_total")
                .Help("Bytes of answers, without TLS.")
                .Register(registry)
                .Add({})) {}

void PortMetrics::answered(prometheus::Labels asked, const std::string& status, const prometheus::Labels& timed,
                           double seconds) {
  asked.emplace("status", status);
  requests_.Add(asked).Increment();
  seconds_.Add(timed, buckets()).Observe(seconds);
}

}  // namespace recast
