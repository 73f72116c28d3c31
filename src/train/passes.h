#pragma once
#include "recast/train/learn.h"

namespace recast {

/// Throws kCancelled once the flag is set.
void check_stop(const std::atomic<bool>* stop);
std::vector<std::int64_t> all_rows(const Source& source);
/// Every row once, in order, without augmentation and without gradients.
void for_each_batch(const Source& source, const std::atomic<bool>* stop, Listener* listener,
                    const std::function<void(const Batch&)>& use);

}  // namespace recast
