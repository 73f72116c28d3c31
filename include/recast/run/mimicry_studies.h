#pragma once
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "recast/mimic/mimicry.h"
#include "recast/train/learn.h"

namespace recast {

/// Images on which a mimicked model is held against its original.
struct StudyImages {
  std::filesystem::path data;                   ///< as `--data`; empty: none
  std::int64_t count = 32;                      ///< taken evenly from the split; a split with fewer gives all
  std::optional<std::int64_t> image_size = {};  ///< side in pixels; absent: the backbone's own
};

struct StudyWatch {
  const std::atomic<bool>* stop = nullptr;
  Listener* listener = nullptr;
};

/// What `recast mimic --compare` and `--sweep` are asked for.
struct MimicryStudy {
  std::filesystem::path directory;
  MimicryOptions options;     ///< compare: `solver` is not read; sweep: `groups` and `templates` are not
  StudyImages images;         ///< with data: outputs of layers and answers are compared, too
  std::filesystem::path out;  ///< FILE.html: a page with tables and plots; FILE.json: the document; empty: neither
  bool force = false;         ///< replace `out`
  std::string command;        ///< as typed, for the record
  StudyWatch watch;
};

/// Every solver on the same banks. Writes no model.
/// Returns {study: "compare", directory, architecture, target, groups, templates, sets, seed,
///          solvers: [{solver, seconds, times_of_closed, relative_error: of all slots together, worst_relative_error,
///                     mean_cosine, worst_cosine, slots: [{slot, relative_error, cosine}],
///                     likeness: {features: [{layer, cosine}], mean_feature_cosine,
///                                task: {rows, same_answers, top1_original, top1} or null} or null}
///                    or {solver, failed: why}],
///          closed_has_least_error, least_speed_ratio: of the others' times to that of closed, or null,
///          images: {path, split, images, image_size, classifies: there is a task `pretrained`, notes} or null, out:
///          file or null} and what provenance() says.
/// top1 and top1_original are null where the images' labels are not those of the task `pretrained`.
/// Throws  as ModelDirectory::open(), mimic() with `closed`, open_dataset(); kAlreadyExists, kInvalidArgument (`out` of
///         another kind); kCancelled, nothing written.
nlohmann::json compare_solvers(const MimicryStudy& study);

/// One solver over groups {1, 2, 3, 4, 6, 12} x templates {1, 2, 3, 4}, as far as there are layers. Writes no model.
/// Returns {study: "sweep", directory, architecture, target, sets, solver, seed, original_bytes,
///          points: [{groups, templates, exact, bytes: of the model, bank_numbers, coefficients, relative_error,
///                    worst_relative_error, mean_cosine, worst_cosine, seconds, likeness: as above or null}],
///          skipped: [{groups, reason}], images, out} and what provenance() says.
/// Throws  as compare_solvers().
nlohmann::json sweep_mimicry(const MimicryStudy& study);

}  // namespace recast
