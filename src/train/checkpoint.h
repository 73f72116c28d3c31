#pragma once
#include "learner.h"

namespace recast {

/// A learning run between two steps, as one file: the numbers of all scopes, counters and cursors, and the candidates
/// so far. There is no generator state: randomness is a function of the seed.
class Checkpoint {
 public:
  static void save(const Learner& learner, const std::filesystem::path& path);
  /// False if there is no file. Throws kShapeMismatch for a checkpoint of another recipe, task or seed,
  /// kDataCorruption.
  static bool load(Learner& learner, const std::filesystem::path& path);
};

}  // namespace recast
