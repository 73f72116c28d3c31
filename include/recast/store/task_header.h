#pragma once
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "recast/base/error.h"
#include "recast/format/safetensors.h"
#include "recast/method/plug_spec.h"

namespace recast {

// What a task file says of its task beside the numbers (docs/formats.md, "Task file"). Knows nothing of torch, so that
// a list of tasks or a fuzz target links little. All functions are pure and may run in parallel.

/// A version (1, 2, ...) of the numbers that several tasks share.
struct SharedVersion {
  std::string name;  ///< as check_task_name() allows
  std::int64_t version = 0;
  bool operator==(const SharedVersion&) const = default;
};

struct TaskHeader {
  std::string name;                      ///< as check_task_name() allows
  std::string fingerprint;               ///< of the model directory: 64 lower-case hexadecimal digits
  std::vector<PlugSpec> plugs;           ///< all plug-ins at work, the default head included
  std::vector<std::string> labels;       ///< [C], each once, UTF-8
  nlohmann::json recipe;                 ///< resolved: recipe name, image_size, epochs, seed, ...; an object or null
  nlohmann::json metrics;                ///< figures of validation and test, coefficients, ...; an object or null
  nlohmann::json data;                   ///< path, kind, splits; an object or null
  std::int64_t version = 0;              ///< 0: not stored yet
  std::int64_t parent = 0;               ///< the version that this one came after or repeats; 0: none
  std::optional<SharedVersion> follows;  ///< set for tasks of methods that are not isolated
  std::string created_utc;               ///< 2026-01-31T23:59:59Z, or empty: not stored yet
};

/// The metadata of a task file.
using TaskMetadata = std::map<std::string, std::string>;

/// Before the names of numbers of the shared state, and before its `scalars`.
inline constexpr std::string_view kSharedPrefix = "shared/";

/// Header 16 MiB, file 8 GiB, 65,536 tensors.
inline constexpr SafetensorsLimits kTaskFileLimits{.header_bytes = 16 << 20, .file_bytes = std::uint64_t{8} << 30};

/// All keys but `scalars` and `shared/scalars`, which belong to the numbers. Throws kInvalidArgument: what
/// decode_task_header() would refuse (names, duplicate labels, texts that are not UTF-8).
TaskMetadata encode_task_header(const TaskHeader& task, std::string_view origin);

/// The reverse. `origin` names the file. Throws  kUnsupported: no task file, or a newer format;  kDataCorruption: keys
/// missing or unknown, values that no task can have.
TaskHeader decode_task_header(const TaskMetadata& metadata, std::string_view origin);

/// Throws `code` unless a plug-in may be called `plug` and a number of it `name` in a task file.
void check_number_name(std::string_view plug, std::string_view name, Code code, std::string_view origin);

/// Names of tasks and shared states: 1 to 128 of A-Z a-z 0-9 . _ -, no dot in front, and no device of Windows (con,
/// nul.txt, COM1), so that a name is also a file name everywhere. Throws kInvalidArgument with that rule.
void check_task_name(std::string_view name);
bool is_task_name(std::string_view name);

}  // namespace recast
