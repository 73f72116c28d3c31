#pragma once
#include "recast/train/learn.h"

namespace recast {

/// Rows per batch where nothing is learned; fixed, so that figures do not depend on a recipe's batch size.
inline constexpr std::int64_t kEvaluationBatch = 64;

/// Throws kCancelled once the flag is set.
void check_stop(const std::atomic<bool>* stop);
std::vector<std::int64_t> all_rows(const Source& source);
/// Every row once, in order, without augmentation and without gradients.
void for_each_batch(const Source& source, const std::atomic<bool>* stop, Listener* listener,
                    const std::function<void(const Batch&)>& use);

}  // namespace recast
