#pragma once
// Runs a Python script of this folder on a safetensors file and reads what it answers.
#include "format/python_tool.h"
#include "format/temporary_folder.h"
#include "recast/format/tensor_file.h"

namespace recast {

inline NamedTensors python_reference(const std::string& script, const TensorFile& question) {
  const TemporaryFolder folder;
  write_tensor_file(folder / "question.safetensors", question);
  const Outcome outcome =
      run_program({python_path(), std::string(RECAST_SOURCE_DIR "/tests/methods/") + script,
                   (folder / "question.safetensors").string(), (folder / "answer.safetensors").string()});
  if (outcome.status != 0) fail(Code::kUnavailable, "[test] {}: {}", script, outcome.text);
  return read_tensor_file(folder / "answer.safetensors").tensors;
}

/// Largest difference over the largest element of b.
inline double relative_difference(const at::Tensor& a, const at::Tensor& b) {
  return ((a.to(at::kDouble) - b.to(at::kDouble)).abs().max() / b.to(at::kDouble).abs().max()).item<double>();
}

}  // namespace recast
