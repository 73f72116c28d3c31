// Step decay: the learning rate falls by a factor every so many epochs (RECAST's recipe: x 0.1 every 33 of 100).
// Idea     factor = gamma ^ floor(epoch / every), epoch counted from 0 within the phase.
#include <cmath>

#include "recast/method/registry.h"

namespace recast {
namespace {

struct StepDecayOptions {
  std::int64_t every = 33;
  double gamma = 0.1;
};

class StepDecay final : public Method, public UpdateRule {
 public:
  explicit StepDecay(StepDecayOptions options) : options_(options) {}

  bool schedules() const override { return true; }
  double rate(std::string_view, std::int64_t, const Counters& at) const override {
    return std::pow(options_.gamma, static_cast<double>(at.epoch / options_.every));
  }

 private:
  StepDecayOptions options_;
};

const bool kRegistered = describe<StepDecay, StepDecayOptions>("step-decay")
                             .summary("learning rate times gamma every so many epochs")
                             .paper("-")
                             .claims({Claim::kIsolated, Claim::kNeutralStart})
                             .option("every", &StepDecayOptions::every, in_range(1, 1e9), "epochs between two steps")
                             .option("gamma", &StepDecayOptions::gamma, in_range(0, 1), "factor of a step")
                             .add();

}  // namespace
}  // namespace recast
