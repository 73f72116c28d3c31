#include "recast/base/statistics.h"

#include <algorithm>
#include <boost/math/distributions/binomial.hpp>
#include <boost/math/distributions/normal.hpp>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <numeric>

#include "recast/base/error.h"

namespace recast {
namespace {

double upper_quantile(double p) { return boost::math::quantile(boost::math::normal(), p); }

}  // namespace

Spread spread(const std::vector<double>& values) {
  if (values.empty()) fail(Code::kInvalidArgument, "[statistics] a spread needs at least one value");
  const auto n = static_cast<double>(values.size());
  Spread out{static_cast<std::int64_t>(values.size()), std::accumulate(values.begin(), values.end(), 0.0) / n, 0, {}};
  if (values.size() == 1) return out;
  double squares = 0;
  for (const double value : values) squares += (value - out.mean) * (value - out.mean);
  out.deviation = std::sqrt(squares / (n - 1));
  const double half = boost::math::quantile(boost::math::students_t(n - 1), 0.975) * out.deviation / std::sqrt(n);
  out.interval95 = Interval{out.mean - half, out.mean + half};
  return out;
}

Interval share_interval(double share, double rows) {
  if (!(rows >= 1 && share >= 0 && share <= 1))
    fail(Code::kInvalidArgument, "[statistics] a share lies in 0..1, of 1 row or more; got {} of {} rows", share, rows);
  const double n = rows, p = share, z = upper_quantile(0.975);
  const double centre = p + z * z / (2 * n), half = z * std::sqrt(p * (1 - p) / n + z * z / (4 * n * n));
  const double scale = 1 + z * z / n;
  return {std::max(0.0, (centre - half) / scale), std::min(1.0, (centre + half) / scale)};
}

std::optional<double> paired_t_p(const std::vector<double>& differences) {
  if (differences.size() < 2) return {};
  const Spread s = spread(differences);
  if (s.deviation == 0) return s.mean == 0 ? 1.0 : 0.0;
  const double t = s.mean / (s.deviation / std::sqrt(static_cast<double>(s.count)));
  const boost::math::students_t law(static_cast<double>(s.count - 1));
  return 2 * boost::math::cdf(boost::math::complement(law, std::abs(t)));
}

double mcnemar_p(std::int64_t only_a, std::int64_t only_b) {
  if (only_a < 0 || only_b < 0)
    fail(Code::kInvalidArgument, "[statistics] counts of rows cannot be negative, got {} and {}", only_a, only_b);
  if (only_a == only_b) return 1;
  const boost::math::binomial coin(static_cast<double>(only_a + only_b), 0.5);
  return std::min(1.0, 2 * boost::math::cdf(coin, static_cast<double>(std::min(only_a, only_b))));
}

}  // namespace recast
