#include "recast/run/mimic_directory.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>

#include "recast/base/log.h"
#include "recast/format/printable.h"
#include "recast/run/figures.h"
#include "recast/run/import_checkpoint.h"
#include "recast/run/model_directory.h"

namespace recast {
namespace {

/// The pretrained classifier as a task of the new directory, where it reads nothing but features.
std::optional<TaskRecord> carried_task(const ModelDirectory& source, const std::string& fingerprint) {
  std::optional<TaskRecord> task = source.store().load(kPretrainedTask);
  if (!task || compose(task->plugs, source.backbone()->anatomy())->moves_features()) return {};
  task->fingerprint = fingerprint;
  return task;
}

}  // namespace

nlohmann::json mimic_directory(const MimicRequest& request) {
  const auto start = std::chrono::steady_clock::now();
  const ModelDirectory source = ModelDirectory::open(request.directory, true);
  const Mimicry made = mimic(source.files(), request.options);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;

  const std::string fingerprint = made.files.fingerprint();
  const std::optional<TaskRecord> task = carried_task(source, fingerprint);
  nlohmann::json kept = nlohmann::json::array(), left = nlohmann::json::array();
  for (const TaskSummary& summary : source.store().list())
    (task && summary.name == task->name ? kept : left).push_back(summary.name);
  write_model_files(request.out, made.files, request.force);
  if (task) open_sqlite_store(request.out, fingerprint, false)->commit(*task);

  double worst_error = 0, worst_cosine = 1;
  nlohmann::json slots = nlohmann::json::array();
  for (const SlotFidelity& f : made.fidelity) {
    slots.push_back({{"slot", f.slot}, {"relative_error", f.relative_error}, {"cosine", f.cosine}});
    worst_error = std::max(worst_error, f.relative_error);
    worst_cosine = std::min(worst_cosine, f.cosine);
  }
  const BankConfig& bank = made.files.config.bank;
  log_event(LogLevel::kInfo, "bank.made",
            {{"directory", request.out.native()},
             {"templates", bank.templates},
             {"groups", bank.groups},
             {"worst_error", worst_error},
             {"ms", 1000 * seconds.count()}});
  return {{"directory", printable(request.out.string(), 4096)},
          {"fingerprint", fingerprint},
          {"target", bank.target},
          {"groups", bank.groups},
          {"templates", bank.templates},
          {"sets", bank.sets},
          {"solver", bank.solver},
          {"slots", std::move(slots)},
          {"worst_relative_error", worst_error},
          {"worst_cosine", worst_cosine},
          {"coefficients", made.coefficients},
          {"bank_numbers", count_bytes(made.files.bank) / 4},
          {"bytes", {{"backbone", count_bytes(made.files.backbone)}, {"bank", count_bytes(made.files.bank)}}},
          {"tasks", {{"kept", kept}, {"left", left}}},
          {"seconds", seconds.count()}};
}

}  // namespace recast
