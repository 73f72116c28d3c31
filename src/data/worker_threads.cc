#include "worker_threads.h"

#include <ATen/Parallel.h>

#include <mutex>
#include <system_error>
#include <thread>

namespace recast {
namespace {

std::mutex& numbers_mutex() {
  static std::mutex mutex;
  return mutex;
}

void settle_unlocked() {
  (void)at::get_num_threads();            // as libtorch's own operations do it
  at::internal::lazy_init_num_threads();  // as at::parallel_for() does it that is compiled here
}

}  // namespace

void settle_threads() {
  const std::lock_guard lock(numbers_mutex());
  settle_unlocked();
}

void own_threads(int count) {
  const std::lock_guard lock(numbers_mutex());
  settle_unlocked();
  const int others = at::get_num_threads();
  at::set_num_threads(count);
  try {  // a thread that ends tells libtorch what others get: told by this one, it would hold for this one too
    std::thread([others] { at::set_num_threads(others); }).join();
  } catch (const std::system_error&) {
    at::set_num_threads(others);
  }
}

}  // namespace recast
