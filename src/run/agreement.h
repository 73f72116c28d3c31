#pragma once
#include <nlohmann/json.hpp>

#include "recast/comm/ranks.h"
#include "recast/run/failure.h"

namespace recast {

/// By all ranks: what each is about to do, an object whose keys are words for the user.
/// Throws kShapeMismatch where a rank's differs from rank 0's, with both named and the first key that differs.
void require_agreement(const nlohmann::json& own, Ranks& ranks);

/// work(ranks) among the ranks that were given, or alone. Where it throws, the others learn why.
template <class Work>
auto among_ranks(Ranks* given, const Work& work) {
  Ranks alone;
  Ranks& ranks = given ? *given : alone;
  try {
    return work(ranks);
  } catch (...) {
    const Failure failure = failure_at_hand();
    ranks.leave(failure.code, failure.message);
    throw;
  }
}

}  // namespace recast
