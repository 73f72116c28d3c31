#include "http_metrics.h"

#include <prometheus/text_serializer.h>

namespace recast {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;

std::string known_method(std::string_view method) {
  for (const std::string_view known : {"GET", "POST", "HEAD", "OPTIONS"})
    if (method == known) return std::string(method);
  return "other";
}

}  // namespace

HttpMetrics::HttpMetrics(prometheus::Registry& registry)
    : PortMetrics(registry, "recast_http_"),
      registry_(registry),
      refusals_(
          BuildCounter()
              .Name("recast_http_refusals_total")
              .Help(
                  "Connections beyond the limit, slow clients, clients gone while they were waited for, tokens, hosts.")
              .Register(registry)),
      connections_(
          BuildCounter().Name("recast_http_connections_total").Help("Connections taken.").Register(registry).Add({})),
      open_(BuildGauge()
                .Name("recast_http_connections_open")
                .Help("Connections that are open.")
                .Register(registry)
                .Add({})) {}

void HttpMetrics::answered(std::string_view path_template, std::string_view method, int status, double seconds) {
  const std::string path(path_template);
  PortMetrics::answered({{"path", path}, {"method", known_method(method)}}, std::to_string(status), {{"path", path}},
                        seconds);
}

void HttpMetrics::opened() {
  connections_.Increment();
  open_.Increment();
}

void HttpMetrics::refused(std::string_view why) { refusals_.Add({{"why", std::string(why)}}).Increment(); }

std::string HttpMetrics::text() const { return prometheus::TextSerializer().Serialize(registry_.Collect()); }

}  // namespace recast
