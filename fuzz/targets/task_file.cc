// A whole task file, but for the values of its tensors.
#include "safetensors_check.h"
#include "task_check.h"

using namespace recast;

RECAST_FUZZ_TARGET(task_file) {
  const auto header = fuzz::accepted([&] { return fuzz::parse_header(bytes, bytes.size(), kTaskFileLimits); });
  if (!header) return;
  fuzz::check_layout(*header, bytes.size(), kTaskFileLimits);
  const auto task = fuzz::accepted([&] { return decode_task_header(header->metadata, "input"); });
  if (!task) return;
  fuzz::check_task_rewriting(*task);
  for (const std::string key : {"scalars", "shared/scalars"}) fuzz::check_scalars(header->metadata, key);
  for (const TensorEntry& entry : header->entries) {
    fuzz::accepted([&] {
      const bool shared = entry.name.starts_with(kSharedPrefix);
      const auto [plug, name] = split_full_name(shared ? entry.name.substr(kSharedPrefix.size()) : entry.name);
      check_number_name(plug, name, Code::kDataCorruption, "input");
      return true;
    });
  }
}
