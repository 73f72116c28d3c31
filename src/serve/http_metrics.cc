#include "http_metrics.h"

#include <prometheus/text_serializer.h>

namespace recast {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::BuildHistogram;

/// Seconds; from what a metadata call takes to the default deadline.
prometheus::Histogram::BucketBoundaries buckets() {
  return {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60};
}

std::string known_method(std::string_view method) {
  for (const std::string_view known : {"GET", "POST", "HEAD", "OPTIONS"})
    if (method == known) return std::string(method);
  return "other";
}

}  // namespace

HttpMetrics::HttpMetrics(prometheus::Registry& registry)
    : registry_(registry),
      requests_(BuildCounter()
                    .Name("recast_http_requests_total")
                    .Help("Requests answered, by path, method and status.")
                    .Register(registry)),
      seconds_(BuildHistogram()
                   .Name("recast_http_request_seconds")
                   .Help("From the end of a request's header to the last byte of its answer.")
                   .Register(registry)),
      refusals_(
          BuildCounter()
              .Name("recast_http_refusals_total")
              .Help("Connections beyond the limit, slow clients, clients gone while they were waited for, tokens.")
              .Register(registry)),
      received_(BuildCounter()
                    .Name("recast_http_received_bytes_total")
                    .Help("Bytes of requests, without TLS.")
                    .Register(registry)
                    .Add({})),
      sent_(BuildCounter()
                .Name("recast_http_sent_bytes_total")
                .Help("Bytes of answers, without TLS.")
                .Register(registry)
                .Add({})),
      connections_(
          BuildCounter().Name("recast_http_connections_total").Help("Connections taken.").Register(registry).Add({})),
      open_(BuildGauge()
                .Name("recast_http_connections_open")
                .Help("Connections that are open.")
                .Register(registry)
                .Add({})) {}

void HttpMetrics::answered(std::string_view path_template, std::string_view method, int status, double seconds) {
  const std::string path(path_template);
  requests_.Add({{"path", path}, {"method", known_method(method)}, {"status", std::to_string(status)}}).Increment();
  seconds_.Add({{"path", path}}, buckets()).Observe(seconds);
}

void HttpMetrics::opened() {
  connections_.Increment();
  open_.Increment();
}

void HttpMetrics::refused(std::string_view why) { refusals_.Add({{"why", std::string(why)}}).Increment(); }

std::string HttpMetrics::text() const { return prometheus::TextSerializer().Serialize(registry_.Collect()); }

}  // namespace recast
