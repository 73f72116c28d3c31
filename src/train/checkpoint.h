#pragma once
#include "learner.h"
#include "recast/format/tensor_file.h"

namespace recast {

/// Numbers of all scopes as tensors of a file, under names that begin with "PREFIX/", and back.
void pack_all(const Numbers& numbers, const std::string& prefix, TensorFile& file);
Numbers unpack_all(const TensorFile& file, const std::string& prefix);

/// A learning run between two steps, as one file: the numbers of all scopes, counters and cursors, the candidates so
/// far, and a SHA-256 over all of it. There is no generator state: randomness is a function of the seed.
class LearnerCheckpoint {
 public:
  /// Writes `path`, whole or not at all, and reads it back; the one that was there stays as previous_checkpoint().
  /// A power failure at any moment leaves at least one of the two. Throws kUnavailable, kDataCorruption (read back).
  static void save(const Learner& learner, const std::filesystem::path& path);
  /// Goes on from `newest` or, where that is missing or damaged, from the one before it. False if there is neither.
  /// Several ranks: from what rank 0 finds.
  /// Throws kShapeMismatch for a checkpoint of another recipe, task or seed, kDataCorruption, kUnsupported (format).
  static bool load(Learner& learner, const std::filesystem::path& newest);
};

}  // namespace recast
