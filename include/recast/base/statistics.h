#pragma once
#include <cstdint>
#include <optional>
#include <vector>

namespace recast {

/// A 95 % confidence interval.
struct Interval {
  double low = 0, high = 0;
};

/// Figures of several runs that differ in their seed only. Interval of the mean by Student's t with n - 1 degrees of
/// freedom, absent for n = 1: one run says nothing about its spread.
struct Spread {
  std::int64_t count = 0;
  double mean = 0;
  double deviation = 0;  ///< of the sample (n - 1); 0 for n = 1
  std::optional<Interval> interval95;
};
/// Throws kInvalidArgument for no values.
Spread spread(const std::vector<double>& values);

/// Of a share seen in so many rows: Wilson's score interval (JASA 22, 1927), which also holds near 0 and 1.
/// Throws kInvalidArgument unless 0 <= share <= 1 and rows >= 1.
Interval share_interval(double share, double rows);

/// Two-sided paired t test of mean difference 0. Absent for fewer than two pairs; 1 where all differences are 0, 0
/// where they are equal and not 0.
std::optional<double> paired_t_p(const std::vector<double>& differences);

/// Two-sided exact McNemar test of two classifiers on the same rows: `only_a` rows that only a has right, `only_b` that
/// only b has right; under equal accuracy each such row is a fair coin. Throws kInvalidArgument for negative counts.
double mcnemar_p(std::int64_t only_a, std::int64_t only_b);

}  // namespace recast
