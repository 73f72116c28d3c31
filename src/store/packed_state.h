#pragma once
#include <ATen/core/Tensor.h>

#include <string>
#include <string_view>
#include <vector>

#include "recast/store/task_record.h"

namespace recast {

/// A tensor that is kept apart from its state's file, named by its content.
struct Blob {
  std::string tensor;  ///< "plug.family@slot#key"
  std::string sha256;  ///< of its bytes
  at::Tensor bytes;    ///< dense, on the CPU, of any dtype
};

/// A record taken apart for storage: `file` is its task file in which each blob is an empty tensor of its dtype.
struct PackedState {
  std::string file;
  std::vector<Blob> blobs;
  std::int64_t stored_bytes() const;
};

/// The state of a version: the task with its numbers of scope kTask, without what changes when a version is copied.
/// Tensors over 1 MiB become blobs, and of the others the largest until no more than 64 MiB stay in the file. Needs no
/// lock. Throws as encode_task().
PackedState pack_task(const TaskRecord& task);
/// The state of a version of the shared state `name`: numbers of scope kShared, and the plug-ins of the `task` that
/// brings them. As pack_task().
PackedState pack_shared(const TaskRecord& task, const Numbers& shared, const std::string& name);

/// The elements of a dense tensor on the CPU.
std::string_view bytes_of(const at::Tensor& tensor);

}  // namespace recast
