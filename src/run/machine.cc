#include "recast/run/machine.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/version.h>

#include <fstream>
#include <sstream>
#include <thread>

namespace recast {
namespace {

/// The value of the first line of /proc/cpuinfo that begins with `key`, or empty.
std::string cpu_info(const std::string& key) {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(": ");
    if (line.starts_with(key) && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "";
}

nlohmann::json vector_extensions() {
  nlohmann::json found = nlohmann::json::array();
  std::istringstream flags(cpu_info("flags"));
  for (std::string flag; flags >> flag;)
    for (const char* known : {"avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16"})
      if (flag == known) found.push_back(flag);
  return found;
}

}  // namespace

nlohmann::json machine() {
  return {{"cpu", cpu_info("model name")},
          {"cores", std::thread::hardware_concurrency()},
          {"threads", at::get_num_threads()},
          {"isa", at::get_cpu_capability()},
          {"flags", vector_extensions()}};
}

bool multiplies_bf16() {
  for (const auto& flag : vector_extensions())
    if (flag == "avx512_bf16" || flag == "amx_bf16") return true;
  return false;
}

nlohmann::json versions() { return {{"recast", kRecastVersion}, {"torch", TORCH_VERSION}}; }

}  // namespace recast
