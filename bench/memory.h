#pragma once
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

namespace recast {

/// A line of /proc/self/status in bytes: VmHWM, the most memory ever held; VmRSS, what is held now.
inline std::int64_t memory_bytes(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(key + ":")) return std::stoll(line.substr(key.size() + 1)) * 1024;
  return -1;
}

/// Reads every byte of all tensors once, on all threads, at the speed of memory: sums of integers, a cache line at a
/// time. The sum is returned so that it cannot be left out.
inline std::uint64_t read_through(const std::vector<at::Tensor>& tensors) {
  typedef std::uint64_t Line __attribute__((vector_size(64)));
  constexpr std::int64_t kPiece = 1 << 16;
  struct Piece {
    const char* begin;
    std::int64_t lines;
  };
  std::vector<Piece> pieces;
  for (const at::Tensor& tensor : tensors) {
    const char* begin = static_cast<const char*>(tensor.const_data_ptr());
    const auto bytes = static_cast<std::int64_t>(tensor.nbytes());
    for (std::int64_t at = 0; at < bytes; at += kPiece)
      pieces.push_back({begin + at, std::min(kPiece, bytes - at) / static_cast<std::int64_t>(sizeof(Line))});
  }
  std::atomic<std::uint64_t> sum = 0;
  at::parallel_for(0, static_cast<std::int64_t>(pieces.size()), 1, [&](std::int64_t first, std::int64_t last) {
    Line part = {};
    for (std::int64_t piece = first; piece < last; ++piece)
      for (std::int64_t at = 0; at < pieces[piece].lines; ++at) {
        Line line;
        std::memcpy(&line, pieces[piece].begin + at * sizeof line, sizeof line);
        part += line;
      }
    std::uint64_t own = 0;
    for (std::size_t i = 0; i < sizeof part / 8; ++i) own += part[i];
    sum += own;
  });
  return sum;
}

}  // namespace recast
