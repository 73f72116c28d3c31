#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <sys/resource.h>
#include <torch/version.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "doctor.h"
#include "recast/base/error.h"
#include "recast/data/cache_folder.h"
#include "recast/format/printable.h"
#include "recast/method/recipe.h"
#include "recast/method/registry.h"
#include "recast/run/machine.h"
#include "recast/store/check_store.h"

namespace recast {
namespace {

/// The shared objects in memory whose file name begins with one of `names`, in the order of their paths.
std::set<std::string> loaded(std::initializer_list<std::string_view> names) {
  std::set<std::string> paths;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const std::size_t slash = line.find('/');
    if (slash == line.npos) continue;
    const std::string path = line.substr(slash);
    const std::string file = path.substr(path.rfind('/') + 1);
    for (const std::string_view name : names)
      if (file.starts_with(name)) paths.insert(path);
  }
  return paths;
}

/// The number after `key` in a file such as /proc/meminfo, in its own unit; -1 if it is not there.
std::int64_t number_after(const char* file, const std::string& key) {
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(key)) continue;
    std::int64_t value = -1;
    std::istringstream(line.substr(key.size())) >> value;
    return value;
  }
  return -1;
}

void examine_processor(const nlohmann::json& processor, Findings& findings) {
  std::string flags;
  for (const auto& flag : processor["flags"]) flags += " " + flag.get<std::string>();
  const std::string isa = processor["isa"];
  const std::string text =
      fmt::format("{}, {} cores,{}; PyTorch's kernels: {}; bf16 {}", processor["cpu"].get<std::string>(),
                  processor["cores"].get<std::int64_t>(), flags.empty() ? " no AVX2" : flags, isa,
                  multiplies_bf16() ? "in hardware" : "emulated, so fp32 is faster");
  if (isa == "DEFAULT" || isa == "NO AVX")
    findings.warn("processor", text, "unset ATEN_CPU_CAPABILITY; without AVX2 everything takes several times as long");
  else
    findings.ok("processor", text);
  const std::int64_t threads = processor["threads"], cores = processor["cores"];
  const char* asked = std::getenv("OMP_NUM_THREADS");
  const std::string count = fmt::format("{} of {} cores{}", threads, cores,
                                        asked ? fmt::format(" (OMP_NUM_THREADS={})", printable(asked)) : "");
  if (threads > cores)
    findings.warn("threads", count, "more threads than cores hinder each other: lower --threads or OMP_NUM_THREADS");
  else
    findings.ok("threads", count);
}

void examine_memory(std::int64_t total, std::int64_t available, Findings& findings) {
  struct rlimit space {};
  ::getrlimit(RLIMIT_AS, &space);
  std::string text = fmt::format("{:.1f} GiB, {:.1f} GiB available", static_cast<double>(total) / kGiB,
                                 static_cast<double>(available) / kGiB);
  const std::int64_t container = number_after("/sys/fs/cgroup/memory.max", "");
  if (container > 0) text += fmt::format(", the container allows {:.1f} GiB", static_cast<double>(container) / kGiB);
  if (space.rlim_cur != RLIM_INFINITY)
    text += fmt::format(", ulimit -v allows {:.1f} GiB", static_cast<double>(space.rlim_cur) / kGiB);
  if (available < static_cast<std::int64_t>(kGiB))
    findings.warn("memory", text, "end other programs, or use smaller --batch-size and --image-size");
  else
    findings.ok("memory", text);
}

void examine_limits(Findings& findings) {
  struct rlimit files {};
  ::getrlimit(RLIMIT_NOFILE, &files);
  const std::string text = fmt::format(
      "{} open files", files.rlim_cur == RLIM_INFINITY ? "any number of" : fmt::format("{}", files.rlim_cur));
  if (files.rlim_cur < 256)
    findings.warn("limits", text, "raise it: ulimit -n 1024");
  else
    findings.ok("limits", text);
}

std::string joined_lines(const std::set<std::string>& paths) {
  std::string out;
  for (const std::string& path : paths) out += (out.empty() ? "" : " and ") + printable(path, 4096);
  return out;
}

/// The version that the libtorch in memory says it has, as "2.13.0"; empty where it does not.
std::string loaded_torch() {
  const std::string config = at::show_config(), key = "TORCH_VERSION=";
  const std::size_t at = config.find(key);
  if (at == config.npos) return "";
  const std::size_t begin = at + key.size();
  return config.substr(begin, config.find_first_of(", \n", begin) - begin);
}

nlohmann::json examine_libraries(Findings& findings) {
  const std::set<std::string> torch = loaded({"libtorch_cpu.so"}), openmp = loaded({"libgomp", "libomp", "libiomp"});
  const std::string running = loaded_torch(), text = fmt::format("PyTorch {}, {}", TORCH_VERSION, joined_lines(torch));
  if (running.empty() || std::string_view(TORCH_VERSION).starts_with(running))
    findings.ok("libtorch", text);
  else
    findings.fail(
        "libtorch",
        fmt::format("{} is version {}, recast was built with {}", joined_lines(torch), running, TORCH_VERSION),
        "build recast against this wheel, or install the other one (docs/install.md)");
  if (openmp.size() > 1)
    findings.warn("openmp", "two runtimes are loaded: " + joined_lines(openmp),
                  "two runtimes start twice the threads and may hang: unset LD_PRELOAD and use the wheel's alone");
  else
    findings.ok("openmp", openmp.empty() ? "none: PyTorch uses its own threads" : joined_lines(openmp));
  return {{"libtorch", torch.empty() ? "" : printable(*torch.begin(), 4096)}, {"openmp", openmp}};
}

nlohmann::json examine_sqlite(Findings& findings) {
  const SqliteLibrary sqlite = sqlite_library();
  const std::string text = fmt::format("SQLite {}, {}", sqlite.version, sqlite.threads);
  if (sqlite.threads == "single-thread")
    findings.fail("sqlite", text, "install a SQLite that was built with threads");
  else
    findings.ok("sqlite", text);
  return {{"version", sqlite.version}, {"threads", sqlite.threads}};
}

/// A folder that is not there yet will be made in the nearest one that is.
void examine_cache(Findings& findings) {
  const std::filesystem::path folder = cache_folder();
  const std::string shown = printable_path(folder);
  std::error_code error;
  std::filesystem::path nearest = std::filesystem::absolute(folder, error);
  while (!nearest.empty() && nearest != nearest.root_path() && !std::filesystem::exists(nearest, error))
    nearest = nearest.parent_path();
  if (folder.empty())
    findings.warn("cache", "none: large folders of images are hashed at every start", "set RECAST_CACHE or HOME");
  else if (::access(nearest.c_str(), W_OK | X_OK) != 0)
    findings.warn("cache", shown + " may not be written", "correct its rights, or set RECAST_CACHE to another folder");
  else
    findings.ok("cache", shown);
}

nlohmann::json examine_cuda(Findings& findings) {
  int devices = 0;
  std::string trouble;
  try {
    if (at::hasCUDA()) devices = static_cast<int>(at::detail::getCUDAHooks().deviceCount());
  } catch (const std::exception& error) {
    trouble = printable(error.what(), 200);
  }
  if (!trouble.empty())
    findings.warn("cuda", trouble, "the driver may be older than this wheel: nvidia-smi; --device cpu works");
  else
    findings.ok("cuda", !at::hasCUDA() ? "not in this build of PyTorch"
                                       : fmt::format("in this build of PyTorch, {} devices", devices));
  return {{"built", at::hasCUDA()}, {"devices", devices}};
}

}  // namespace

nlohmann::json examine_machine(Findings& findings) {
  const nlohmann::json processor = machine();
  const std::int64_t total = static_cast<std::int64_t>(::sysconf(_SC_PHYS_PAGES)) * ::sysconf(_SC_PAGESIZE);
  const std::int64_t available = number_after("/proc/meminfo", "MemAvailable:") * 1024;
  examine_processor(processor, findings);
  examine_memory(total, available, findings);
  examine_limits(findings);
  nlohmann::json report = {{"machine", processor},
                           {"versions", versions()},
                           {"memory_bytes", total},
                           {"memory_available_bytes", available},
                           {"plugins", Registry::instance().all().size()},
                           {"recipes", recipe_names()}};
  report["libraries"] = examine_libraries(findings);
  report["sqlite"] = examine_sqlite(findings);
  report["cuda"] = examine_cuda(findings);
  examine_cache(findings);
  findings.ok("plug-ins",
              fmt::format("{} plug-ins, {} recipes", report["plugins"].get<std::size_t>(), report["recipes"].size()));
  return report;
}

}  // namespace recast
