#pragma once
#include "method/scalars.h"
#include "recast/store/task_header.h"
#include "target.h"

namespace recast::fuzz {

inline bool same(const TaskHeader& a, const TaskHeader& b) {
  return a.name == b.name && a.fingerprint == b.fingerprint && a.plugs == b.plugs && a.labels == b.labels &&
         a.recipe == b.recipe && a.metrics == b.metrics && a.data == b.data && a.version == b.version &&
         a.parent == b.parent && a.follows == b.follows && a.created_utc == b.created_utc;
}

/// An accepted header is written as one that says the same, and always with the same texts.
inline void check_task_rewriting(const TaskHeader& task) {
  const TaskMetadata written = encode_task_header(task, "input");
  TaskHeader again = decode_task_header(written, "rewritten");
  TaskHeader expected = task;
  for (PlugSpec& plug : expected.plugs) {
    if (plug.alias.empty()) plug.alias = plug.method;
  }
  RECAST_FUZZ_CHECK(same(again, expected));
  RECAST_FUZZ_CHECK(encode_task_header(again, "input") == written);
}

/// The scalars of a task file, by the steps of its reader.
inline void check_scalars(const TaskMetadata& metadata, const std::string& key) {
  const auto text = metadata.find(key);
  if (text == metadata.end()) return;
  const auto scalars = accepted([&] { return decode_scalars(text->second); });
  if (!scalars) return;
  for (const auto& [full, scalar] : *scalars) {
    accepted([&] {
      const auto [plug, name] = split_full_name(full);
      check_number_name(plug, name, Code::kDataCorruption, "input");
      return true;
    });
  }
  const std::string written = encode_scalars(*scalars);
  const Scalars again = decode_scalars(written);
  RECAST_FUZZ_CHECK(again.size() == scalars->size());
  RECAST_FUZZ_CHECK(encode_scalars(again) == written);
}

}  // namespace recast::fuzz
