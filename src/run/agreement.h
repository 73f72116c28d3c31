#pragma once
#include <nlohmann/json.hpp>

#include "recast/comm/ranks.h"

namespace recast {

/// By all ranks: what each is about to do, an object whose keys are words for the user.
/// Throws kShapeMismatch where a rank's differs from rank 0's, with both named and the first key that differs.
void require_agreement(const nlohmann::json& own, Ranks& ranks);

}  // namespace recast
