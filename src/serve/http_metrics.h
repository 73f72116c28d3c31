#pragma once
#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <cstddef>
#include <string>
#include <string_view>

namespace recast {

/// What the HTTP port counts, in a registry that others write to as well. Labels take few values, whatever is asked
/// for.
class HttpMetrics {
 public:
  explicit HttpMetrics(prometheus::Registry& registry);

  void answered(std::string_view path_template, std::string_view method, int status, double seconds);
  void received(std::size_t bytes) { received_.Increment(static_cast<double>(bytes)); }
  void sent(std::size_t bytes) { sent_.Increment(static_cast<double>(bytes)); }
  void opened();
  void closed() { open_.Decrement(); }
  /// A connection beyond the limit, one whose client was too slow, one whose client went while its request waited, a
  /// token that was refused: "limit", "slow", "gone", "token".
  void refused(std::string_view why);

  /// All of the registry as Prometheus' text format, version 0.0.4.
  std::string text() const;

 private:
  prometheus::Registry& registry_;
  prometheus::Family<prometheus::Counter>& requests_;
  prometheus::Family<prometheus::Histogram>& seconds_;
  prometheus::Family<prometheus::Counter>& refusals_;
  prometheus::Counter& received_;
  prometheus::Counter& sent_;
  prometheus::Counter& connections_;
  prometheus::Gauge& open_;
};

}  // namespace recast
