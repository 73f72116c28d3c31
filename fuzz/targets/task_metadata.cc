// The metadata of a task file, given as lines "key value": mutations need not keep the JSON around them intact.
#include "task_check.h"

using namespace recast;

RECAST_FUZZ_TARGET(task_metadata) {
  TaskMetadata metadata;
  while (!bytes.empty()) {
    const std::string_view line = bytes.substr(0, bytes.find('\n'));
    const std::string_view key = line.substr(0, line.find(' '));
    metadata.emplace(key, line.substr(std::min(key.size() + 1, line.size())));
    bytes.remove_prefix(std::min(line.size() + 1, bytes.size()));
  }
  for (const std::string key : {"scalars", "shared/scalars"}) fuzz::check_scalars(metadata, key);
  const auto task = fuzz::accepted([&] { return decode_task_header(metadata, "input"); });
  if (task) fuzz::check_task_rewriting(*task);
}
