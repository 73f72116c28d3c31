#pragma once
#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <cstddef>
#include <string>

namespace recast {

/// What every port counts, in a registry that others write to as well. Labels take few values, whatever is asked for.
class PortMetrics {
 public:
  void received(std::size_t bytes) { received_.Increment(static_cast<double>(bytes)); }
  void sent(std::size_t bytes) { sent_.Increment(static_cast<double>(bytes)); }

 protected:
  /// Names begin with `prefix`, "recast_http_".
  PortMetrics(prometheus::Registry& registry, const std::string& prefix);
  ~PortMetrics() = default;

  /// `asked`, what was asked for, and `status` are the labels of the count, `timed` those of the time.
  void answered(prometheus::Labels asked, const std::string& status, const prometheus::Labels& timed, double seconds);

 private:
  prometheus::Family<prometheus::Counter>& requests_;
  prometheus::Family<prometheus::Histogram>& seconds_;
  prometheus::Counter& received_;
  prometheus::Counter& sent_;
};

}  // namespace recast
