// Checkpoints of other libraries under recast's names. Nothing is renamed by pattern: each tensor that the architecture
// needs says under which names it may be found, so what is left over is known too.
#include <fmt/ranges.h>

#include "checkpoint.h"
#include "recast/base/error.h"

namespace recast {
namespace {

std::vector<Library> all_libraries() {
  std::vector<Library> all(vit_libraries().begin(), vit_libraries().end());
  all.insert(all.end(), cnn_libraries().begin(), cnn_libraries().end());
  return all;
}

bool is_vit(const Library& library) {
  for (const Library& known : vit_libraries()) {
    if (std::string_view(known.anchor) == library.anchor) return true;
  }
  return false;
}

[[noreturn]] void refuse_other_kind(const Checkpoint& checkpoint, const Library& library, const ModelConfig& config) {
  const bool vit = is_vit(library);
  const Names fitting = vit ? fitting_vits(checkpoint, library) : fitting_cnns(checkpoint, library);
  fail(Code::kShapeMismatch, "[import] {} does not fit {}: it is a {} under the names of {}{}", checkpoint.origin(),
       config.architecture, vit ? "vision transformer" : "convolutional network", library.name,
       fitting.empty() ? ", of no architecture that recast knows"
                       : fmt::format(": try --arch {}", fmt::join(fitting, " or ")));
}

}  // namespace

ImportedCheckpoint import_checkpoint(NamedTensors given, ModelConfig config, std::string_view origin) {
  static const std::vector<Library> kLibraries = all_libraries();
  Checkpoint checkpoint(std::move(given), origin);
  const Library& library = checkpoint.recognise(kLibraries);
  const bool vit = is_vit(library);
  if (vit != std::holds_alternative<VitConfig>(config.network)) refuse_other_kind(checkpoint, library, config);
  return vit ? import_vit(std::move(checkpoint), library, std::move(config))
             : import_cnn(std::move(checkpoint), library, std::move(config));
}

}  // namespace recast
