#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "recast/run/model_directory.h"

namespace recast {

// Tasks in and out of adapter folders of HF PEFT (docs/peft.md). Which plug-in computes what PEFT calls LORA the
// registry says (MethodInfo::peft_type): it keeps families a [r, in], b [out, r] and alpha (real; absent: the option's)
// by slot and part, and has the options rank, alpha and, where it takes any adapter, rslora and targets.

/// Whether a path is such a folder, or one of its two files.
bool is_peft_folder(const std::filesystem::path& path);

struct PeftTask {
  TaskRecord record;     ///< of this directory, not stored yet; its shapes fit
  nlohmann::json facts;  ///< {format: "peft", modules, names, base_model, head: "adapter" | "pretrained" |
                         ///< "pretrained+lora", ignored: [fields]}
};
/// `name`, `labels`: as in `recast tasks import`; may be empty.
/// Throws  kNotFound: a file of the folder is missing, or the classifier is;  kUnsupported: another type of adapter or
///         a variant of LoRA, foreign modules;  kShapeMismatch: another base (both named), ranks that contradict the
///         config, keys missing or left over, labels that do not fit;  kDataCorruption, kExhausted: damaged or absurd.
PeftTask read_peft_task(const ModelDirectory& directory, const std::filesystem::path& path, const std::string& name,
                        const std::filesystem::path& labels);

/// Writes `record` as a new folder, or with `force` over an older adapter. `library`: of peft_libraries(), empty: that
/// of the folder that the task came from, else timm. `base_model`: empty: as the task knows it, else the architecture.
/// Returns {modules, names, base_model, bytes, notes: [texts]}.
/// Throws  kUnsupported: plug-ins, heads or poolings that PEFT has no word for, named;  kAlreadyExists.
nlohmann::json write_peft_task(const ModelDirectory& directory, const TaskRecord& record,
                               const std::filesystem::path& folder, const std::string& library,
                               const std::string& base_model, bool force);

}  // namespace recast
