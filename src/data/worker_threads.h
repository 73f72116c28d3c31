/// How many threads tensor operations take, per thread that calls them. libtorch keeps the number per thread, but hands
/// to each thread, at its first parallel operation, the number that any thread set last: a worker that set 1 for itself
/// with at::set_num_threads() would slow down whoever comes next.
#pragma once

namespace recast {

/// Gives the calling thread its number now, if libtorch has not done so yet. To be called before workers start.
void settle_threads();

/// Sets the number of the calling thread; what other threads will get stays as it was. No effect where the process
/// cannot start another thread.
void own_threads(int count);

}  // namespace recast
