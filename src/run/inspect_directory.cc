#include "recast/run/inspect_directory.h"

#include <ATen/ATen.h>

#include "recast/format/printable.h"
#include "recast/run/figures.h"
#include "task_numbers.h"

namespace recast {
namespace {

nlohmann::json describe_groups(const ModelFiles& files) {
  nlohmann::json groups = nlohmann::json::array();
  for (const BankConfig::Group& group : files.config.bank.members) {
    const at::Tensor& templates = files.bank.at(group.name + ".templates");
    groups.push_back({{"name", group.name},
                      {"slots", group.slots},
                      {"templates", templates.size(0)},
                      {"shape", templates.sizes().slice(1).vec()},
                      {"bytes", templates.nbytes()}});
  }
  return groups;
}

nlohmann::json describe_slots(const Anatomy& anatomy, const BankConfig& bank) {
  nlohmann::json slots = nlohmann::json::array();
  for (const Slot& slot : anatomy.slots) {
    nlohmann::json group;
    if (slot.group >= 0) group = bank.members.at(static_cast<std::size_t>(slot.group)).name;
    slots.push_back({{"name", slot.name},
                     {"kind", name(slot.kind)},
                     {"shape", slot.shape},
                     {"role", slot.role},
                     {"depth", slot.depth},
                     {"group", group}});
  }
  return slots;
}

}  // namespace

std::string_view name(SlotKind kind) {
  switch (kind) {
    case SlotKind::kWeight:
      return "weight";
    case SlotKind::kVector:
      return "vector";
    case SlotKind::kActivation:
      return "activation";
    case SlotKind::kNorm:
      return "norm";
    case SlotKind::kFeature:
      return "feature";
    case SlotKind::kHead:
      return "head";
    case SlotKind::kParam:
      return "param";
  }
  return "";
}

nlohmann::json inspect_directory(const ModelDirectory& directory) {
  const ModelFiles& files = directory.files();
  std::int64_t parameters = 0, coefficients = 0, task_bytes = 0;
  for (const auto& [tensor, shape] : backbone_tensors(files.config.network))
    parameters += c10::multiply_integers(shape);
  for (const Slot& slot : directory.backbone()->anatomy().slots)
    if (slot.coefficients.defined()) coefficients += slot.coefficients.numel();
  const std::vector<TaskSummary> tasks = directory.store().list();
  for (const TaskSummary& task : tasks) task_bytes += task.state_bytes;
  return {
      {"directory", printable_path(directory.path())},
      {"fingerprint", directory.fingerprint()},
      {"config", files.config.to_json()},
      {"feature_width", directory.backbone()->feature_width()},
      {"parameters", parameters},
      {"bytes", {{"backbone", count_bytes(files.backbone)}, {"bank", count_bytes(files.bank)}, {"tasks", task_bytes}}},
      {"groups", describe_groups(files)},
      {"coefficients", coefficients},
      {"task_numbers", task_numbers(*directory.backbone())},
      {"slots", describe_slots(directory.backbone()->anatomy(), files.config.bank)},
      {"tasks", tasks.size()}};
}

}  // namespace recast
