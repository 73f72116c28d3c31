#pragma once
#include <atomic>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "recast/train/learn.h"

namespace recast {

/// What `recast lab` is asked for.
struct LabRequest {
  std::filesystem::path file;
  std::vector<std::string> overrides;  ///< "key.key=value"
  std::filesystem::path out;           ///< in place of the file's; empty: the file's
  std::vector<std::string> cells;      ///< patterns as choose_cells() reads them; empty: all
  bool force = false;                  ///< run the chosen cells again, done or not
  std::int64_t jobs = 1;               ///< cells side by side, which share the threads
  std::string command;                 ///< as typed, for the record
  const std::atomic<bool>* stop = nullptr;
  Listener* listener = nullptr;  ///< called from one thread at a time; steps and epochs with jobs = 1 only
  Ranks* ranks = nullptr;        ///< processes that share the cells and see the same folders; null: nobody
};

/// The name of the document below; docs/lab.schema.json is its schema.
inline constexpr std::string_view kLabSchema = "recast-lab-1";

/// Runs the cells of a lab file that are not done: learn, then measure what was stored; a task of scenario class-il
/// learns its classes step by step and measures after each. One file a cell tells what came
/// out, or why it failed; a failed one does not stop the others and is tried again by the next run. A cell whose
/// settings, model or images have changed since is run again. What was stopped or killed, between cells or within one,
/// goes on from there and comes to the same results (one machine, one number of threads).
/// Several ranks  each takes the next cell that is free; where one is lost, the others do the cells that are left, and
/// rank 0 writes the reports before it throws. The document is rank 0's; others return its `counts` alone. Ranks with
/// different lab files, cells or programs: kShapeMismatch, before anything is written.
/// Writes OUT/{lab.yaml, models, runs, cells} and what report_lab() writes. Models and data are only read.
/// Returns the document of report_lab().
/// Throws  as read_lab_file(), before anything is written; kNotFound: models or data are missing, all of which are
/// named
///         by warnings before; kUnavailable: another lab works in the same folder; kCancelled: stopped, after the
///         reports were written.
nlohmann::json run_lab(const LabRequest& request);

/// What the files of the cells amount to. Reads neither models nor data. Writes into OUT, whole files or none:
/// results.json (the document), results.csv (a line a cell), table.md, accuracy-over-bytes.svg,
/// accuracy-over-seconds.svg, report.html. Returns
/// {schema, title, file, out, tasks: [{task, scenario, stream, classes, images, image_size}], seeds, rows: [{recipe,
///  label, group, model, baseline, plugs, cells, coefficients, head_numbers, stored_bytes: {least, mean, most},
///  seconds: the same, tasks: {TASK: {top1, difference, stream}}, overall: {top1, difference}, streams}], cells: [a
///  line of results.csv each], counts: {cells, done, failed, left}, notes} and what provenance() says. top1: {values,
///  mean, deviation, interval95} over seeds, or null; overall over seeds of the mean over tasks, seeds that all tasks
///  have alone. difference: from the row's baseline, {baseline, values, mean, deviation, interval95, p}, paired over
///  seeds, overall over tasks x seeds; null without pairs. What stands in a row itself is of tasks of scenario task;
///  `streams` has the same of tasks of scenario class-il (top1: after the last step) and average, average_difference,
///  and is null where the row has none; TASK.stream adds forgetting, backward_transfer, forward_transfer and the curve.
/// Throws as read_lab_file(); kUnavailable.
nlohmann::json report_lab(const LabRequest& request);

/// Whether any task of such a document is of this scenario: "task" or "class-il".
bool has_scenario(const nlohmann::json& results, std::string_view scenario);

/// What has become of every cell that `cells` names: {out, cells: [{task, recipe, seed, state: missing | begun | failed
/// | changed: its settings differ | done, scenario, top1, average: null but for class-il, seconds, error}]}. Reads
/// neither models nor data. Throws as read_lab_file().
nlohmann::json list_lab(const LabRequest& request);

/// The lab file with overrides, as YAML that reads back as the same lab. Throws as read_lab_file().
std::string lab_settings_yaml(const LabRequest& request);

}  // namespace recast
