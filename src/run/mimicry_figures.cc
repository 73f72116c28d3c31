#include "mimicry_figures.h"

#include <algorithm>

namespace recast {

nlohmann::json figures(const std::vector<SlotFidelity>& slots) {
  nlohmann::json rows = nlohmann::json::array();
  double worst_error = 0, worst_cosine = 1, cosines = 0;
  for (const SlotFidelity& f : slots) {
    rows.push_back({{"slot", f.slot}, {"relative_error", f.relative_error}, {"cosine", f.cosine}});
    worst_error = std::max(worst_error, f.relative_error);
    worst_cosine = std::min(worst_cosine, f.cosine);
    cosines += f.cosine;
  }
  return {{"relative_error", relative_error(slots)},
          {"worst_relative_error", worst_error},
          {"mean_cosine", cosines / static_cast<double>(slots.size())},
          {"worst_cosine", worst_cosine},
          {"slots", std::move(rows)}};
}

std::function<void(std::int64_t, std::int64_t)> report_steps(Listener* listener, const std::string& solver) {
  if (!listener) return {};
  return [listener, solver](std::int64_t done, std::int64_t total) {
    if (done == 0) listener->stage(solver, total);
    listener->step(done, total);
  };
}

}  // namespace recast
