#include "recast/run/figures.h"

#include <fmt/format.h>

#include "recast/base/statistics.h"

namespace recast {
namespace {

/// What a plug-in says, or the elements of all tensors of its stored families that train, or of all its families.
std::int64_t count_elements(const Plug& plug, const State& state, bool trained_only) {
  if (const auto said = plug.method->learned_numbers(state)) return *said;
  std::int64_t count = 0;
  for (const auto& [name, number] : state) {
    const Family* family = plug.info->family(family_of(name));
    const auto* tensor = std::get_if<at::Tensor>(&number);
    if (tensor && (!trained_only || (family && family->trains))) count += tensor->numel();
  }
  return count;
}

}  // namespace

nlohmann::json or_null(const std::optional<double>& value) { return value ? nlohmann::json(*value) : nlohmann::json(); }

nlohmann::json figures(const Evaluation& evaluation, const std::vector<std::string>& labels) {
  nlohmann::json per_class = nlohmann::json::object();
  for (std::size_t c = 0; c < evaluation.per_class.size(); ++c)
    per_class[labels.at(c)] = evaluation.per_class[c] < 0 ? nlohmann::json() : nlohmann::json(evaluation.per_class[c]);
  const Interval interval = share_interval(evaluation.top1, static_cast<double>(evaluation.rows));
  return {
      {"rows", evaluation.rows},          {"top1", evaluation.top1}, {"top1_interval95", {interval.low, interval.high}},
      {"top5", evaluation.top5},          {"loss", evaluation.loss}, {"per_class", per_class},
      {"confusion", evaluation.confusion}};
}

nlohmann::json figures(const EpochMetrics& e) {
  return {{"epoch", e.epoch},
          {"stage", e.stage},
          {"train_loss", e.train_loss},
          {"eval_loss", e.validation_loss},
          {"eval_top1", e.validation_top1},
          {"lr", e.rate},
          {"seconds", e.seconds},
          {"skipped_steps", e.skipped_steps}};
}

nlohmann::json count_numbers(const Model& model) {
  std::int64_t coefficients = 0, head = 0, bytes = 0, shared_bytes = 0;
  nlohmann::json numbers = nlohmann::json::object();
  for (const Plug& plug : model.recipe().plugs()) {
    const State& task = model.numbers().at(plug.alias(), Scope::kTask);
    const State& shared = model.numbers().at(plug.alias(), Scope::kShared);
    const bool trained_only = !plug.roles.head;
    const std::int64_t learned = count_elements(plug, task, trained_only) + count_elements(plug, shared, trained_only);
    (plug.roles.head ? head : coefficients) += learned;
    const std::int64_t stored = plug.method->stored_bytes(task);
    bytes += stored;
    shared_bytes += shared.bytes();
    if (task.empty() && shared.empty()) continue;
    numbers[plug.alias()] = {{"learned", learned}, {"bytes", stored + shared.bytes()}};
  }
  return {{"coefficients", coefficients},
          {"head_numbers", head},
          {"stored_bytes", bytes},
          {"shared_bytes", shared_bytes},
          {"numbers", numbers}};
}

std::string numbers_text(const nlohmann::json& numbers) {
  std::string text;
  for (const auto& [plug, counts] : numbers.items()) {
    text += fmt::format("{}{} {} ({} bytes)", text.empty() ? "" : ", ", plug, counts["learned"].get<std::int64_t>(),
                        counts["bytes"].get<std::int64_t>());
  }
  return text;
}

std::int64_t count_bytes(const NamedTensors& tensors) {
  std::int64_t bytes = 0;
  for (const auto& [name, tensor] : tensors) bytes += static_cast<std::int64_t>(tensor.nbytes());
  return bytes;
}

}  // namespace recast
