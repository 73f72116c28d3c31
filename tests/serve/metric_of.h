#pragma once
#include <prometheus/registry.h>

#include <algorithm>
#include <string>

#include "base/becomes_true.h"

namespace recast {

/// Sum of a counter or gauge over its labels, or over those with one of that value; of a histogram what it has seen; 0
/// if there is none.
inline double metric_of(const prometheus::Registry& registry, const std::string& name,
                        const std::string& label_value = "") {
  double sum = 0;
  for (const auto& family : registry.Collect())
    for (const auto& metric : family.metric) {
      const auto has = [&](const auto& label) { return label.value == label_value; };
      if (family.name == name && (label_value.empty() || std::ranges::any_of(metric.label, has)))
        sum += metric.counter.value + metric.gauge.value + static_cast<double>(metric.histogram.sample_count);
    }
  return sum;
}

/// Waits until it is so: what is counted after an answer was sent may come after its receipt.
inline bool metric_becomes(const prometheus::Registry& registry, const std::string& name, double value,
                           const std::string& label_value = "") {
  return becomes_true([&] { return metric_of(registry, name, label_value) == value; });
}

}  // namespace recast
