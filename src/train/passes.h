#pragma once
#include "recast/train/learn.h"

namespace recast {

/// Throws kCancelled once the flag is set.
void check_stop(const std::atomic<bool>* stop);
std::vector<std::int64_t> all_rows(const Source& source);
/// Every row once, in order, without augmentation and without gradients.
void for_each_batch(const Source& source, const std::atomic<bool>* stop, Listener* listener,
                    const std::function<void(const Batch&)>& use);
/// The same in two parts: `compute` sees each batch, on one of the ranks, and `use` all that it returned, in the order
/// of batches, on every rank. Several ranks: on the CPU.
void for_each_result(const Source& source, Ranks* ranks, const std::atomic<bool>* stop, Listener* listener,
                     const std::function<Fields(const Batch&)>& compute, const std::function<void(Fields)>& use);

}  // namespace recast
