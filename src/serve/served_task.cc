#include "served_task.h"

#include <fmt/format.h>

#include "made_weights.h"

namespace recast {
namespace {

/// Of a record beside its tensors: names, plug-ins, composition.
constexpr std::int64_t kFixedBytes = 16 << 10;

std::string kind_of(const LoadedTask& task) {
  std::string kind = fmt::format("{} px", task.preprocessing.size_px);
  for (const Plug& plug : task.model.recipe().plugs())
    if (plug.roles.weight || plug.roles.branch) kind += " " + plug_text(plug.spec);
  return kind;
}

std::int64_t bytes_of(const Numbers& numbers) {
  std::int64_t sum = 0;
  for (const auto& [alias, scopes] : numbers.plugs())
    for (const auto& [scope, state] : scopes) sum += state.bytes();
  return sum;
}

}  // namespace

std::shared_ptr<const ServedTask> make_served_task(const std::string& base, LoadedTask loaded, std::string digest) {
  const std::shared_ptr<ServedTask> task(new ServedTask{.base = base,
                                                        .name = loaded.record.name,
                                                        .version = loaded.record.version,
                                                        .digest = std::move(digest),
                                                        .labels = std::move(loaded.record.labels),
                                                        .model = loaded.model,
                                                        .preprocessing = loaded.preprocessing,
                                                        .kind = kind_of(loaded)});
  task->makes_weights = makes_weights(task->model);
  if (task->makes_weights) task->sums = template_sums(task->model);
  task->bytes = kFixedBytes + bytes_of(task->model.numbers()) + (task->sums ? task->sums->bytes() : 0);
  for (const std::string& label : task->labels) task->bytes += static_cast<std::int64_t>(label.size() + sizeof(label));
  return task;
}

}  // namespace recast
