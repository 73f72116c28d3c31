#pragma once
// What both kinds of networks ask of an import.
#include "format/expect_error.h"
#include "recast/model/model_files.h"

#define EXPECT_SAYS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

namespace recast {

inline bool equal(const NamedTensors& a, const NamedTensors& b) {
  if (a.size() != b.size()) return false;
  for (const auto& [name, tensor] : a) {
    const auto other = b.find(name);
    if (other == b.end() || !tensor.equal(other->second)) return false;
  }
  return true;
}

/// The one line that says why a checkpoint is refused, which names the file.
inline std::string failure(const NamedTensors& tensors, const ModelConfig& config, Code code) {
  const std::string text = error_of(code, [&] { import_checkpoint(tensors, config, "some.safetensors"); });
  EXPECT_EQ(text.find('\n'), std::string::npos) << text;
  EXPECT_SAYS(text, "some.safetensors");
  return text;
}

}  // namespace recast
