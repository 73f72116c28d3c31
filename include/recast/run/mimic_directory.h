#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>

#include "recast/mimic/mimicry.h"

namespace recast {

struct MimicRequest {
  std::filesystem::path directory;
  MimicryOptions options;
  std::filesystem::path out;  ///< the new model directory
  bool force = false;
};

/// Neural mimicry of a model directory into a new one. The task `pretrained` is carried over (over banks with n >= L it
/// gives the same logits); other tasks stay behind, since what they learned belongs to the old numbers.
/// Returns {directory, fingerprint, target, groups, templates, sets, solver, slots: [{slot, relative_error, cosine}],
///          worst_relative_error, worst_cosine, coefficients, bank_numbers, bytes: {backbone, bank},
///          tasks: {kept: [], left: []}, seconds}.
/// Throws  as ModelDirectory::open(), mimic() and write_model_files().
nlohmann::json mimic_directory(const MimicRequest& request);

}  // namespace recast
