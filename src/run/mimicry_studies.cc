#include "recast/run/mimicry_studies.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "mimicry_figures.h"
#include "original_outputs.h"
#include "recast/base/error.h"
#include "recast/base/log.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"
#include "recast/run/figures.h"
#include "recast/run/provenance.h"
#include "study_page.h"

namespace recast {
namespace {
namespace fs = std::filesystem;

constexpr std::int64_t kSweptGroups[] = {1, 2, 3, 4, 6, 12}, kSweptTemplates[] = {1, 2, 3, 4};

/// Where a study goes beside standard output. Opened at once: what is wrong with it shows before minutes of work.
class StudyFile {
 public:
  explicit StudyFile(const MimicryStudy& study) : path_(study.out) {
    if (path_.empty()) return;
    const std::string kind = path_.extension().string(), shown = printable_path(path_);
    if (kind != ".html" && kind != ".json")
      fail(Code::kInvalidArgument, "[mimic] --out {}: a comparison goes to FILE.html (a page) or FILE.json", shown);
    if (!study.force && fs::exists(fs::symlink_status(path_)))
      fail(Code::kAlreadyExists, "[mimic] {} exists: choose another --out, or --force to replace it", shown);
    file_.emplace(path_);
  }
  /// Writes the document, which gets the name of the file that it went to.
  void write(nlohmann::json& document) {
    document["out"] = file_ ? nlohmann::json(printable_path(path_)) : nlohmann::json();
    if (!file_) return;
    file_->write(path_.extension() == ".html"
                     ? study_page(document)
                     : document.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
    file_->commit();
  }

 private:
  fs::path path_;
  std::optional<AtomicFile> file_;
};

std::optional<OriginalOutputs> outputs_of(const ModelDirectory& original, const MimicryStudy& study) {
  if (study.images.data.empty()) return {};
  return OriginalOutputs(original, study.images, Split::kTest, study.watch);
}

nlohmann::json likeness_of(const std::optional<OriginalOutputs>& original, const Mimicry& made,
                           const StudyWatch& watch) {
  if (!original) return nullptr;
  return original->compare(*make_backbone(made.files), watch).json();
}

nlohmann::json begin_document(const char* what, const ModelDirectory& original, const MimicryStudy& study) {
  return {{"study", what},
          {"directory", printable_path(study.directory)},
          {"architecture", original.files().config.architecture},
          {"target", resolved(study.options, original.files().config).target},
          {"sets", study.options.sets},
          {"seed", study.options.seed}};
}

/// What every study ends with.
nlohmann::json finished(nlohmann::json document, const MimicryStudy& study, const Stopwatch& watch, StudyFile& file) {
  document.update(provenance(study.command, watch.ms() / 1000));
  file.write(document);
  return document;
}

// ---- compare -------------------------------------------------------------------------------------------------------

/// A solver's row. One that diverges is no failure of the comparison; `closed`, which goes first, meets all that is
/// wrong with the options.
nlohmann::json solver_row(const ModelDirectory& original, const std::optional<OriginalOutputs>& outputs,
                          MimicryOptions options, const StudyWatch& watch) {
  const bool closed = options.solver == "closed";
  if (closed) options.steps = 0, options.rate = 0;
  try {
    const Mimicry made = mimic(original.files(), options, watch.stop, report_steps(watch.listener, options.solver));
    nlohmann::json row = figures(made.fidelity);
    row.update(
        {{"solver", options.solver}, {"seconds", made.seconds}, {"likeness", likeness_of(outputs, made, watch)}});
    return row;
  } catch (const Error& error) {
    if (closed || error.code() != Code::kInvalidArgument) throw;
    return {{"solver", options.solver}, {"failed", error.what()}};
  }
}

/// The first row is closed's.
void judge(nlohmann::json& document) {
  nlohmann::json& rows = document["solvers"];
  const double seconds = rows[0]["seconds"], error = rows[0]["relative_error"];
  bool least = true;
  std::optional<double> ratio;
  for (auto& row : rows) {
    if (row.contains("failed")) continue;
    const double times = row["seconds"].get<double>() / std::max(seconds, 1e-9);
    row["times_of_closed"] = times;
    if (row["solver"] == rows[0]["solver"]) continue;
    least = least && error <= row["relative_error"].get<double>();
    ratio = std::min(ratio.value_or(times), times);
  }
  document["closed_has_least_error"] = least;
  document["least_speed_ratio"] = or_null(ratio);
}

// ---- sweep ---------------------------------------------------------------------------------------------------------

nlohmann::json point(const ModelDirectory& original, const std::optional<OriginalOutputs>& outputs,
                     const MimicryOptions& options, const StudyWatch& watch) {
  const Mimicry made = mimic(original.files(), options, watch.stop);
  nlohmann::json row = figures(made.fidelity);
  row.erase("slots");
  row.update({{"groups", options.groups},
              {"templates", options.templates},
              {"exact", row["worst_relative_error"] == 0},
              {"bytes", count_bytes(made.files.backbone) + count_bytes(made.files.bank)},
              {"bank_numbers", count_bytes(made.files.bank) / 4},
              {"coefficients", made.coefficients},
              {"seconds", made.seconds},
              {"likeness", likeness_of(outputs, made, watch)}});
  return row;
}

/// Without a listener of its own: the sweep is one bar.
StudyWatch silent(const StudyWatch& watch) { return {watch.stop, nullptr}; }

}  // namespace

nlohmann::json compare_solvers(const MimicryStudy& study) {
  const Stopwatch watch;
  StudyFile file(study);
  const ModelDirectory original = ModelDirectory::open(study.directory, true);
  const std::optional<OriginalOutputs> outputs = outputs_of(original, study);
  nlohmann::json document = begin_document("compare", original, study);
  MimicryOptions options = resolved(study.options, original.files().config);
  document.update({{"groups", options.groups},
                   {"templates", options.templates},
                   {"solvers", nlohmann::json::array()},
                   {"images", outputs ? outputs->json() : nlohmann::json()}});
  for (const std::string& name : mimicry_solver_names()) {
    options.solver = name;
    document["solvers"].push_back(solver_row(original, outputs, options, study.watch));
  }
  judge(document);
  return finished(std::move(document), study, watch, file);
}

nlohmann::json sweep_mimicry(const MimicryStudy& study) {
  const Stopwatch watch;
  StudyFile file(study);
  const ModelDirectory original = ModelDirectory::open(study.directory, true);
  const std::optional<OriginalOutputs> outputs = outputs_of(original, study);
  nlohmann::json document = begin_document("sweep", original, study);
  nlohmann::json points = nlohmann::json::array(), skipped = nlohmann::json::array();
  MimicryOptions options = study.options;
  const std::int64_t total = std::size(kSweptGroups) * std::size(kSweptTemplates);
  if (study.watch.listener) study.watch.listener->stage("sweep", total);
  std::int64_t done = 0;
  for (const std::int64_t groups : kSweptGroups) {
    options.groups = groups;
    try {
      for (const std::int64_t templates : kSweptTemplates) {
        options.templates = templates;
        points.push_back(point(original, outputs, options, silent(study.watch)));
        if (study.watch.listener) study.watch.listener->step(++done, total);
      }
    } catch (const Error& error) {
      // More groups than layers; what is wrong with the other options shows at one group.
      if (error.code() != Code::kInvalidArgument || groups == 1) throw;
      skipped.push_back({{"groups", groups}, {"reason", error.what()}});
    }
  }
  document.update({{"solver", options.solver},
                   {"original_bytes", count_bytes(original.files().backbone) + count_bytes(original.files().bank)},
                   {"points", std::move(points)},
                   {"skipped", std::move(skipped)},
                   {"images", outputs ? outputs->json() : nlohmann::json()}});
  return finished(std::move(document), study, watch, file);
}

}  // namespace recast
