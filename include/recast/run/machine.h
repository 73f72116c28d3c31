#pragma once
#include <nlohmann/json.hpp>
#include <string_view>

namespace recast {

inline constexpr std::string_view kRecastVersion = "0.1.0";

/// {cpu, cores, threads, isa: what libtorch's kernels use, flags: [vector extensions of this processor]}.
nlohmann::json machine();
/// This processor multiplies bf16 in hardware (AVX-512 bf16 or AMX); elsewhere bf16 is emulated and slower than fp32.
bool multiplies_bf16();
/// {recast, torch}.
nlohmann::json versions();

}  // namespace recast
