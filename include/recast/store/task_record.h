#pragma once
#include <string>
#include <string_view>

#include "recast/method/compose.h"
#include "recast/method/state.h"
#include "recast/store/task_header.h"

namespace recast {

/// All that belongs to one task at one version. A value; its tensors are shared by copies (see State).
struct TaskRecord : TaskHeader {
  Numbers numbers;  ///< scope kTask, and kShared of the version that `follows` names
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

}  // namespace recast
