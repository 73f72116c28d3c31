#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>

#include "recast/mimic/mimicry.h"
#include "recast/run/mimicry_studies.h"

namespace recast {

/// A short distillation after a mimicry with fewer templates than layers; see --heal in docs/mimicry.md.
struct HealOptions {
  std::int64_t steps = 0;  ///< 0: none
  std::int64_t batch = 8;  ///< training images a step
  double rate = 0.003;     ///< what a step moves a tensor by at most, as a share of its root mean square
  StudyImages images;      ///< to learn from (train), to decide with (validation) and to measure on (test)
};

struct MimicRequest {
  std::filesystem::path directory;
  MimicryOptions options;
  std::filesystem::path out;  ///< the new model directory
  bool force = false;
  HealOptions heal;
  StudyWatch watch;
};

/// Neural mimicry of a model directory into a new one. The task `pretrained` is carried over (over banks with n >= L it
/// gives the same logits); other tasks stay behind, since what they learned belongs to the old numbers.
/// Returns {directory, fingerprint, target, groups, templates, sets, solver, relative_error: of all slots together,
///          worst_relative_error, mean_cosine, worst_cosine, slots: [{slot, relative_error, cosine}], coefficients,
///          bank_numbers, bytes: {backbone, bank}, tasks: {kept: [], left: []}, solver_seconds, seconds,
///          heal: null, or {steps, batch, rate, images, seconds, loss_first, loss_last, kept: false where healing did
///          not help on the validation images and was dropped, validation: {images, before, after}, features: [{layer,
///          before, after}], mean_feature_cosine: {before, after}, task: {before, after} as compare_solvers() has it,
///          test_images}, or {skipped: why}}.
/// Throws  as ModelDirectory::open(), mimic() and write_model_files(), before the solver runs where `out` is in the
/// way; as open_dataset() with `heal`; kInvalidArgument: `heal` without data or out of range; kCancelled, nothing
/// written.
nlohmann::json mimic_directory(const MimicRequest& request);

}  // namespace recast
