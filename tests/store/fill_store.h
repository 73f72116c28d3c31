#pragma once
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <vector>

#include "recast/base/error.h"
#include "recast/base/key.h"
#include "recast/store/task_store.h"

namespace recast {

/// A task that answers otherwise than `like`, of the same plug-ins, shapes and labels: its fp32 numbers are scaled by
/// factors around 1 that depend on `name` and `seed` alone.
inline TaskRecord varied_task(const TaskRecord& like, const std::string& name, std::uint64_t seed) {
  TaskRecord task = like;
  task.name = name;
  task.created_utc.clear();
  task.numbers = {};
  const Key key = Key(seed).fold(name);
  for (const auto& [plug, scopes] : like.numbers.plugs()) {
    for (const auto& [number, value] : like.numbers.at(plug, Scope::kTask)) {
      const auto* tensor = std::get_if<at::Tensor>(&value);
      const bool scaled = tensor != nullptr && tensor->scalar_type() == at::kFloat;
      const auto factor = [&] { return key.fold(plug + "." + number).uniform(tensor->sizes()) * 0.2 + 0.9; };
      task.numbers.at(plug, Scope::kTask).set(number, scaled ? Number(*tensor * factor()) : value);
    }
  }
  return task;
}

/// "PREFIX0000000", ... so that the order of names is the order of numbers.
inline std::string numbered_name(const std::string& prefix, std::int64_t number) {
  return fmt::format("{}{:07}", prefix, number);
}

/// Commits the tasks PREFIX0000000 ... PREFIX(count - 1), each like one of `likes` in turn, by the store's own
/// commit(): 0.5 ms each in memory (/dev/shm), 4 ms and more where each one waits for a disk.
inline void fill_store(TaskStore& store, const std::vector<TaskRecord>& likes, std::int64_t count,
                       const std::string& prefix = "task-", std::uint64_t seed = 1) {
  if (likes.empty()) fail(Code::kInvalidArgument, "[test] no task to fill the store with");
  for (std::int64_t i = 0; i < count; ++i) {
    const TaskRecord& like = likes[static_cast<std::size_t>(i) % likes.size()];
    store.commit(varied_task(like, numbered_name(prefix, i), seed));
  }
}

}  // namespace recast
