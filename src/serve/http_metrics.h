#pragma once
#include <string>
#include <string_view>

#include "port_metrics.h"

namespace recast {

/// What the HTTP port counts.
class HttpMetrics : public PortMetrics {
 public:
  explicit HttpMetrics(prometheus::Registry& registry);

  void answered(std::string_view path_template, std::string_view method, int status, double seconds);
  void opened();
  void closed() { open_.Decrement(); }
  /// A connection beyond the limit, one whose client was too slow, one whose client went while its request waited, a
  /// token that was refused, a name that is not this server's: "limit", "slow", "gone", "token", "host".
  void refused(std::string_view why);

  /// All of the registry as Prometheus' text format, version 0.0.4.
  std::string text() const;

 private:
  prometheus::Registry& registry_;
  prometheus::Family<prometheus::Counter>& refusals_;
  prometheus::Counter& connections_;
  prometheus::Gauge& open_;
};

}  // namespace recast
