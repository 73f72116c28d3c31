#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "recast/run/model_directory.h"

namespace recast {

// `recast tasks DIR ...`, one function a verb. Where a version matters, `task` is "NAME", "NAME:VERSION" or
// "NAME:TAG".

/// {tasks: [{task, version, versions, tags, removed, classes, plugs, state_bytes, file_bytes, created_utc,
///           validation_top1: number or null, test_top1: number or null}]}.
nlohmann::json list_tasks(const ModelDirectory& directory, bool with_removed);
/// The same of these tasks, as TaskStore::list_of() has it.
nlohmann::json list_tasks(const ModelDirectory& directory, const std::vector<std::string>& names);
/// {task, version, parent, created_utc, fingerprint, labels, plugs, recipe, data, metrics,
///  follows: {name, version} or null, numbers: [{plug, scope, name, dtype, shape, values: up to 16}]}.
nlohmann::json show_task(const ModelDirectory& directory, const std::string& task);
/// {task, versions: [as in list_tasks()]}, oldest first.
nlohmann::json log_task(const ModelDirectory& directory, const std::string& task);
/// Compares two tasks: {a, b, equal, labels_equal, plugs_equal,
///  numbers: [{plug, name, in: "a" | "b" | "both", equal, largest_difference: number or null}]}.
nlohmann::json diff_tasks(const ModelDirectory& directory, const std::string& a, const std::string& b);
/// {task, version, file, bytes}. Throws kAlreadyExists without `force`.
nlohmann::json export_task(const ModelDirectory& directory, const std::string& task, const std::filesystem::path& file,
                           bool force);
/// The same as an adapter folder of HF PEFT (docs/peft.md). `names`: whose module names, timm, transformers or
/// transformers4; empty: those of the folder that the task came from, else timm's. `base_model`: what the folder says
/// of its base; empty: as the task knows it, else the architecture.
/// Returns {task, version, file: the folder, bytes, format: "peft", modules, names, base_model, notes: [texts]}.
/// Throws  kUnsupported: a plug-in, head or pooling that PEFT has no word for, named;  kAlreadyExists without `force`.
nlohmann::json export_peft_folder(const ModelDirectory& directory, const std::string& task,
                                  const std::filesystem::path& folder, const std::string& names,
                                  const std::string& base_model, bool force);
/// {task, version, file, classes}. `file`: a task file, or an adapter folder of HF PEFT (then {..., format: "peft",
/// modules, names, base_model, head: "adapter" | "pretrained", ignored: [fields of its config]} too). `name`: what to
/// call it here; empty: as in the file, or as the folder is called. `labels`: of a folder's classes, one a line; empty:
/// those that it was exported with, else class_0, ... The plug-ins and numbers are checked against this backbone first.
/// Throws  kShapeMismatch with both fingerprints, or both widths, for another backbone; for folders see docs/peft.md.
nlohmann::json import_task_file(const ModelDirectory& directory, const std::filesystem::path& file,
                                const std::string& name, const std::filesystem::path& labels = {});
/// {task, purged}.
nlohmann::json remove_task(const ModelDirectory& directory, const std::string& task, bool purge);
/// {task, version: the new one, copy_of}. `version`: a number or a tag; empty: shows a removed task again.
nlohmann::json rollback_task(const ModelDirectory& directory, const std::string& task, const std::string& version);
/// {task, version, tag}. Throws as TaskStore::tag().
nlohmann::json tag_task(const ModelDirectory& directory, const std::string& task, const std::string& tag, bool force);
/// {task, tag, removed: true}. `task`: "NAME". Throws as TaskStore::untag().
nlohmann::json untag_task(const ModelDirectory& directory, const std::string& task, const std::string& tag);
/// {task, tags: [{tag, version}]}, oldest version first.
nlohmann::json list_tags(const ModelDirectory& directory, const std::string& task);
/// {bytes: freed}.
nlohmann::json collect_garbage(const ModelDirectory& directory);

}  // namespace recast
