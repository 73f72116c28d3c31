#pragma once
#include <ATen/ATen.h>

#include <string>

#include "recast/format/files.h"
#include "recast/store/task_store.h"

namespace recast {

// What the stores and task files of released versions hold. Files that were committed were made from this: it is never
// edited; a new version that can hold more gets functions of its own.

inline const std::string kReleasedFingerprint = sha256_hex("released");

inline TaskRecord released_task(const std::string& name, std::int64_t seed) {
  TaskRecord task;
  task.name = name;
  task.fingerprint = kReleasedFingerprint;
  task.plugs = {{"recast", "recast", {{"grain", "slot"}}}, {"linear", "head", {}}};
  task.labels = {"cat", "dog", "Käfer"};
  task.recipe = {{"name", "fast"}, {"rate", 0.1}, {"seed", seed}};
  task.metrics = {{"validation", {{"top1", 0.5}}}};
  task.data = {{"path", "pets"}};
  task.created_utc = "2026-01-31T23:59:59Z";
  State& state = task.numbers.at("recast", Scope::kTask);
  state.set("c@blocks.0.attn.qkv", at::arange(seed, seed + 4, at::kFloat) / 3);
  state.set("halves", (at::arange(12, at::kFloat) / 7).to(at::kBFloat16).reshape({3, 4}));
  state.set("flags", at::tensor({1, 0, 1}).to(at::kBool));
  state.set("least", std::numeric_limits<std::int64_t>::min());
  state.set("denormal", std::numeric_limits<double>::denorm_min());
  state.set("text", std::string("ünïcode 字\n\t\"quoted\""));
  task.numbers.at("head", Scope::kTask).set("bias", at::full({3}, 0.1 * static_cast<double>(seed)));
  return task;
}

/// Over 1 MiB, so that a store keeps it in a file of its own.
inline TaskRecord released_large_task(const std::string& name, std::int64_t seed) {
  TaskRecord task = released_task(name, seed);
  task.numbers.at("recast", Scope::kTask).set("w", at::full({(1 << 18) + 1}, seed, at::kFloat));
  return task;
}

inline Numbers released_shared(double value) {
  Numbers numbers;
  numbers.at("recast", Scope::kShared).set("memory", at::full({8}, value));
  return numbers;
}

/// pets: 1, 2 (with a file of its own), 3 repeats 1;  cars: hidden;  a, b: follow `common`, which has two versions.
inline void commit_released_tasks(TaskStore& store) {
  const Numbers first = released_shared(1), second = released_shared(2);
  store.commit(released_task("pets", 1));
  store.commit(released_large_task("pets", 2));
  store.rollback("pets", 1);
  store.commit(released_task("cars", 3));
  store.remove("cars");
  store.commit(released_task("a", 4), &first, "common");
  store.commit(released_task("b", 5), &second, "common");
}

}  // namespace recast
