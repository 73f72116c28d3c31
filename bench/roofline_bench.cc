// What this processor can do at most, as one JSON document: products of matrices that stay in a core's own cache, by
// dtype, through oneDNN as recast uses it, and bytes to and from memory. ONEDNN_MAX_CPU_ISA takes instructions away;
// bench/roofline calls this once for each set.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/native/CPUBlas.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "recast/run/machine.h"

namespace {
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// Calls work(thread) on all threads at once, `rounds` times; the seconds of the fastest round.
template <class Work>
double fastest(int threads, int rounds, const Work& work) {
  double best = 1e9;
  for (int round = 0; round < rounds; ++round) {
    const auto start = Clock::now();
    at::parallel_for(0, threads, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) work(i);
    });
    best = std::min(best, seconds_since(start));
  }
  return best;
}

/// GFLOP/s of x B with x [M, K] and panels of B of 64 columns, both in cache; 0 where this dtype is not multiplied.
template <class S>
double product_rate(int threads, std::int64_t M, std::int64_t K) {
  constexpr std::int64_t kPanel = 64, kTimes = 400;
  const at::ScalarType dtype = c10::CppTypeToScalarType<S>::value;
  const auto make = [&](std::int64_t rows, std::int64_t columns) {
    return at::randn({threads, rows, columns}).to(dtype);
  };
  const at::Tensor a = make(M, K), b = make(K, kPanel), c = at::empty({threads, M, kPanel});
  const auto work = [&](std::int64_t thread) {
    const S* const left = a.const_data_ptr<S>() + thread * M * K;
    const S* const right = b.const_data_ptr<S>() + thread * K * kPanel;
    float* const out = c.mutable_data_ptr<float>() + thread * M * kPanel;
    for (std::int64_t i = 0; i < kTimes; ++i)
      at::native::cpublas::brgemm(M, kPanel, K, K, kPanel, kPanel, false, left, right, out, sizeof(S) == 2);
    at::native::cpublas::brgemm_release();
  };
  try {
    work(0);
  } catch (const std::exception&) {
    return 0;
  }
  const double flop = 2.0 * static_cast<double>(M * K * kPanel * kTimes * threads);
  return flop / fastest(threads, 12, work) / 1e9;
}

template <class S>
double best_product_rate(int threads) {
  double best = 0;
  for (const std::int64_t M : {64, 128, 256})
    for (const std::int64_t K : {256, 384, 512}) best = std::max(best, product_rate<S>(threads, M, K));
  return best;
}

/// GB/s: reading alone, and reading and writing together.
nlohmann::json memory_rates(int threads) {
  constexpr std::size_t kBytes = std::size_t{128} << 20;
  const at::Tensor from = at::ones({threads, static_cast<std::int64_t>(kBytes / 8)}, at::kLong), to = from.clone();
  std::atomic<std::int64_t> kept = 0;  // so that reading is not left out
  const double read = fastest(threads, 8, [&](std::int64_t thread) {
    const std::int64_t* const p = from.const_data_ptr<std::int64_t>() + thread * static_cast<std::int64_t>(kBytes / 8);
    std::int64_t sums[16] = {};
    for (std::size_t i = 0; i < kBytes / 8; i += 16)
      for (std::size_t j = 0; j < 16; ++j) sums[j] += p[i + j];
    for (const std::int64_t sum : sums) kept += sum;
  });
  const double copy = fastest(threads, 8, [&](std::int64_t thread) {
    std::memcpy(static_cast<char*>(to.data_ptr()) + static_cast<std::size_t>(thread) * kBytes,
                static_cast<const char*>(from.const_data_ptr()) + static_cast<std::size_t>(thread) * kBytes, kBytes);
  });
  const double bytes = static_cast<double>(kBytes) * threads / 1e9;
  return {{"read", bytes / read}, {"read_and_write", 2 * bytes / copy}};
}

}  // namespace

int main(int argc, char** argv) {
  int threads = 1;
  bool memory = false;
  CLI::App app("peak rates of this processor");
  app.add_option("--threads", threads)->check(CLI::Range(1, 1024));
  app.add_flag("--memory", memory, "measure memory, too");
  CLI11_PARSE(app, argc, argv);
  at::set_num_threads(threads);
  nlohmann::json result = {
      {"threads", threads},
      {"gflops", {{"fp32", best_product_rate<float>(threads)}, {"bf16", best_product_rate<at::BFloat16>(threads)}}},
      {"machine", recast::machine()}};
  if (memory) result["gigabytes_per_second"] = memory_rates(threads);
  std::puts(result.dump().c_str());
  std::fflush(stdout);
  std::_Exit(0);  // libtorch's own exit handlers have nothing to save
}
