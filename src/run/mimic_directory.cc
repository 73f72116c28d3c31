#include "recast/run/mimic_directory.h"

#include <ATen/ATen.h>

#include "heal_banks.h"
#include "mimicry_figures.h"
#include "recast/base/log.h"
#include "recast/data/dataset.h"
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

/// Replaces the banks of `made` by healed ones where they were asked for and there is something to heal.
nlohmann::json heal(Mimicry& made, const ModelDirectory& source, const MimicRequest& request) {
  if (request.heal.steps == 0) return nullptr;
  if (relative_error(made.fidelity) == 0)
    return {{"skipped", "nothing to heal: with so many templates the mimicked network is the original to the bit"}};
  nlohmann::json report = heal_banks(made.files, source, request.heal, request.options.seed, request.watch);
  if (report["kept"].get<bool>()) {
    made.files.config.bank.solver += "+heal";
    made.fidelity = measure_fidelity(*source.backbone(), *make_backbone(made.files));
  }
  return report;
}

}  // namespace

nlohmann::json mimic_directory(const MimicRequest& request) {
  const Stopwatch watch;
  check_heal_options(request.heal);
  check_model_target(request.out, request.force);
  if (request.heal.steps > 0) open_dataset(request.heal.images.data);  // what is wrong with it shows before the work
  const ModelDirectory source = ModelDirectory::open(request.directory, true);
  Mimicry made = mimic(source.files(), request.options, request.watch.stop,
                       report_steps(request.watch.listener, request.options.solver));
  const nlohmann::json healed = heal(made, source, request);
  const double ms = watch.ms();

  const std::string fingerprint = made.files.fingerprint();
  const std::optional<TaskRecord> task = carried_task(source, fingerprint);
  nlohmann::json kept = nlohmann::json::array(), left = nlohmann::json::array();
  for (const TaskSummary& summary : source.store().list())
    (task && summary.name == task->name ? kept : left).push_back(summary.name);
  write_model_files(request.out, made.files, request.force);
  if (task) open_sqlite_store(request.out, fingerprint, false)->commit(*task);

  const BankConfig& bank = made.files.config.bank;
  nlohmann::json report = figures(made.fidelity);
  log_event(LogLevel::kInfo, "bank.made",
            {{"directory", request.out.native()},
             {"templates", bank.templates},
             {"groups", bank.groups},
             {"worst_error", report["worst_relative_error"].get<double>()},
             {"ms", ms}});
  report.update({{"directory", printable_path(request.out)},
                 {"fingerprint", fingerprint},
                 {"target", bank.target},
                 {"groups", bank.groups},
                 {"templates", bank.templates},
                 {"sets", bank.sets},
                 {"solver", bank.solver},
                 {"coefficients", made.coefficients},
                 {"bank_numbers", count_bytes(made.files.bank) / 4},
                 {"bytes", {{"backbone", count_bytes(made.files.backbone)}, {"bank", count_bytes(made.files.bank)}}},
                 {"tasks", {{"kept", kept}, {"left", left}}},
                 {"heal", healed},
                 {"solver_seconds", made.seconds},
                 {"seconds", ms / 1000}});
  return report;
}

}  // namespace recast
