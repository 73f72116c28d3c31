#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "recast/method/compose.h"
#include "recast/method/state.h"

namespace recast {

/// A version (1, 2, ...) of the numbers that several tasks share.
struct SharedVersion {
  std::string name;  ///< as check_task_name() allows
  std::int64_t version = 0;
  bool operator==(const SharedVersion&) const = default;
};

/// All that belongs to one task at one version. A value; its tensors are shared by copies (see State).
struct TaskRecord {
  std::string name;                      ///< as check_task_name() allows
  std::string fingerprint;               ///< of the model directory: 64 lower-case hexadecimal digits
  std::vector<PlugSpec> plugs;           ///< all plug-ins at work, the default head included
  std::vector<std::string> labels;       ///< [C], each once, UTF-8
  Numbers numbers;                       ///< scope kTask, and kShared of the version that `follows` names
  nlohmann::json recipe;                 ///< resolved: recipe name, image_size, epochs, seed, ...; an object or null
  nlohmann::json metrics;                ///< figures of validation and test, coefficients, ...; an object or null
  nlohmann::json data;                   ///< path, kind, splits; an object or null
  std::int64_t version = 0;              ///< 0: not stored yet
  std::int64_t parent = 0;               ///< the version that this one came after or repeats; 0: none
  std::optional<SharedVersion> follows;  ///< set for tasks of methods that are not isolated
  std::string created_utc;               ///< 2026-01-31T23:59:59Z, or empty: not stored yet
};

/// The bytes of a task file (docs/formats.md, "Task file"): one safetensors file that stands alone. Numbers of scope
/// kTask and kShared are written, those of other scopes are not part of a task. Equal records give equal bytes.
/// Throws  kInvalidArgument: what decode_task() would refuse (names, duplicate labels, texts that are not UTF-8);
/// kDataCorruption: NaN or infinity;  kUnsupported: sparse or odd tensors.
std::string encode_task(const TaskRecord& task);

/// Reads a task file from anywhere; `origin` names it in messages. Plug-ins are not looked up: whether they exist and
/// whether the numbers fit them is found out when the recipe is composed.
/// Throws  kUnsupported: no safetensors file, no task file, or a newer format;  kExhausted: header over 16 MiB, file
///         over 8 GiB, more than 65,536 tensors;  kDataCorruption: cut off, lying, missing or unknown keys, duplicate
///         labels, NaN or infinity.
TaskRecord decode_task(std::string_view bytes, std::string_view origin);

/// Names of tasks and shared states: 1 to 128 of A-Z a-z 0-9 . _ - and no dot in front, so that a name is also a file
/// name everywhere. Throws kInvalidArgument with that rule.
void check_task_name(std::string_view name);

}  // namespace recast
