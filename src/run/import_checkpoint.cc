#include "recast/run/import_checkpoint.h"

#include <ATen/ATen.h>

#include "labels_file.h"
#include "recast/base/error.h"
#include "recast/base/log.h"
#include "recast/format/printable.h"
#include "recast/method/compose.h"
#include "recast/model/model_files.h"
#include "recast/store/task_store.h"

namespace recast {
namespace {

/// After the checkpoint has had its say: what the user asked for goes before.
void override_preprocessing(const ImportRequest& request, Preprocessing& p) {
  if (request.mean) p.mean = *request.mean;
  if (request.std) p.std = *request.std;
  if (request.interpolation) p.interpolation = *request.interpolation;
  if (request.crop_pct) p.crop_pct = *request.crop_pct;
  if (request.image_size) p.size_px = *request.image_size;
  check(p);
}

/// Which features the backbone gives: what an adapter's classifier reads may be another choice than the checkpoint's.
void override_pooling(const ImportRequest& request, ImportedCheckpoint& imported) {
  if (!request.pooling) return;
  auto* vit = std::get_if<VitConfig>(&imported.files.config.network);
  if (vit == nullptr)
    fail(Code::kInvalidArgument, "[import] --pooling is for vision transformers; {} averages", request.architecture);
  vit->pooling = *request.pooling;
  if (const std::string fault = fault_of(*vit); !fault.empty())
    fail(Code::kInvalidArgument, "[import] --pooling {}: {}", printable(*request.pooling), fault);
}

/// The checkpoint's classifier as a task of the default head alone.
TaskRecord classifier_task(const ImportedCheckpoint& imported, const ImportRequest& request) {
  const auto backbone = make_backbone(imported.files);
  const auto recipe = compose({}, backbone->anatomy());
  TaskRecord task;
  task.name = kPretrainedTask;
  task.fingerprint = imported.files.fingerprint();
  task.plugs = recipe->specs();
  const at::Tensor weight = imported.classifier_weight.to(at::kFloat).contiguous();
  if (weight.size(1) != backbone->feature_width())
    fail(Code::kShapeMismatch,
         "[import] the classifier reads {} features, {} gives {}: leave its tensors out, or "
         "choose the architecture that it belongs to",
         weight.size(1), request.architecture, backbone->feature_width());
  const at::Tensor bias = imported.classifier_bias.defined() ? imported.classifier_bias.to(at::kFloat).contiguous()
                                                             : at::zeros({weight.size(0)}, at::kFloat);
  task.labels = request.labels.empty() ? numbered_labels(weight.size(0)) : read_labels(request.labels, weight.size(0));
  const Plug& head = recipe->head();
  if (!head.roles.head->adopt(weight, bias, task.numbers.at(head.alias(), Scope::kTask)))
    fail(Code::kInternal, "[import] the default head '{}' takes over no linear classifier", head.alias());
  task.recipe = {{"name", "import"}, {"image_size", imported.files.config.preprocessing.size_px}};
  return task;
}

}  // namespace

nlohmann::json import_model(const ImportRequest& request) {
  const Stopwatch watch;
  ModelConfig config = architecture(request.architecture);
  Preprocessing tried = config.preprocessing;
  override_preprocessing(request, tried);  // a bad value shows before a large file is read
  config.preprocessing.size_px = tried.size_px;
  const std::string origin = printable_path(request.checkpoint);
  ImportedCheckpoint imported = import_checkpoint(read_tensor_file(request.checkpoint).tensors, config, origin);
  override_preprocessing(request, imported.files.config.preprocessing);
  override_pooling(request, imported);
  const bool classifies = imported.classifier_weight.defined();
  if (!classifies && !request.labels.empty())
    fail(Code::kInvalidArgument, "[import] {} has no classifier that labels could name: leave --labels out", origin);
  std::optional<TaskRecord> task;
  if (classifies) task = classifier_task(imported, request);

  const std::string fingerprint = imported.files.fingerprint();
  write_model_files(request.out, imported.files, request.force);
  if (task) open_sqlite_store(request.out, fingerprint, false)->commit(*task);
  log_event(LogLevel::kInfo, "checkpoint.imported",
            {{"path", request.checkpoint.native()},
             {"architecture", imported.files.config.architecture},
             {"naming", imported.naming},
             {"fingerprint", fingerprint},
             {"ms", watch.ms()}});

  std::int64_t parameters = 0;
  for (const auto& [name, tensor] : imported.files.backbone) parameters += tensor.numel();
  const nlohmann::json written = imported.files.config.to_json();
  nlohmann::json report = {{"directory", printable_path(request.out)},
                           {"architecture", imported.files.config.architecture},
                           {"naming", imported.naming},
                           {"fingerprint", fingerprint},
                           {"parameters", parameters},
                           {"bytes", 4 * parameters},
                           {"preprocessing", written.at("preprocessing")},
                           {imported.files.config.network_key(), written.at(imported.files.config.network_key())},
                           {"task", nullptr}};
  if (task) report["task"] = {{"name", task->name}, {"classes", task->labels.size()}};
  return report;
}

}  // namespace recast
