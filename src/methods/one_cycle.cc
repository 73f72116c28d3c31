// One-cycle learning rate. Smith and Topin, arXiv:1708.07120, in the cosine form that PyTorch's OneCycleLR made usual.
// Idea     over the phase's N steps: from 1/div up to 1 at step warm * N - 1, then down to 1/(div * final_div) at step
//          N - 1, both along half a cosine.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "recast/method/registry.h"

namespace recast {
namespace {

struct OneCycleOptions {
  double warm = 0.3, div = 25, final_div = 1e4;
};

class OneCycle final : public Method, public UpdateRule {
 public:
  explicit OneCycle(OneCycleOptions options) : options_(options) {}

  bool schedules() const override { return true; }
  double rate(std::string_view, std::int64_t, const Counters& at) const override {
    const double last = static_cast<double>(std::max<std::int64_t>(at.total_steps - 1, 1));
    const double peak = options_.warm * static_cast<double>(at.total_steps) - 1;
    const double step = std::min(static_cast<double>(at.step), last);
    const double low = 1 / options_.div, end = low / options_.final_div;
    if (step < peak) return between(low, 1, step / peak);
    return between(1, end, (step - peak) / (last - peak));
  }

 private:
  static double between(double from, double to, double share) {
    return to + (from - to) / 2 * (1 + std::cos(std::numbers::pi * share));
  }
  OneCycleOptions options_;
};

const bool kRegistered =
    describe<OneCycle, OneCycleOptions>("one-cycle")
        .summary("learning rate up and down once, along cosines")
        .paper("arXiv:1708.07120")
        .claims({Claim::kIsolated, Claim::kNeutralStart})
        .option("warm", &OneCycleOptions::warm, in_range(0, 0.99), "share of the steps on the way up")
        .option("div", &OneCycleOptions::div, at_least(1), "the start is the peak divided by this")
        .option("final_div", &OneCycleOptions::final_div, at_least(1), "the end is the start divided by this")
        .add();

}  // namespace
}  // namespace recast
