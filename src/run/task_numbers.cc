#include "task_numbers.h"

#include <algorithm>

#include "recast/method/compose.h"
#include "start_context.h"

namespace recast {
namespace {

std::int64_t count(const Backbone& backbone, const MethodInfo& info, const OptionTexts& options) {
  StartContext context(backbone, info, Key(0));
  info.make(options)->begin_task(context);
  std::int64_t numbers = 0;
  for (const auto& [scope, state] : context.states())
    for (const auto& [name, number] : state)
      if (const auto* tensor = std::get_if<at::Tensor>(&number); tensor && info.family(family_of(name))->trains)
        numbers += tensor->numel();
  return numbers;
}

}  // namespace

nlohmann::json task_numbers(const Backbone& backbone) {
  nlohmann::json rows = nlohmann::json::array();
  const auto& slots = backbone.anatomy().slots;
  if (std::none_of(slots.begin(), slots.end(), [](const Slot& slot) { return slot.bank.defined(); })) return rows;
  for (const MethodInfo* info : Registry::instance().all()) {
    if (!info->has(Need::kBank)) continue;
    const std::int64_t usual = count(backbone, *info, {});
    nlohmann::json others = nlohmann::json::array();
    for (const OptionSpec& option : info->options) {
      nlohmann::json choices = nlohmann::json::array();
      bool changes = false;
      for (const std::string& choice : option.choices) {
        const std::int64_t numbers = count(backbone, *info, {{option.name, choice}});
        choices.push_back(
            {{"plug", plug_text({info->name, info->name, {{option.name, choice}}})}, {"numbers", numbers}});
        changes = changes || numbers != usual;
      }
      if (changes) others.insert(others.end(), choices.begin(), choices.end());
    }
    if (others.empty()) others.push_back({{"plug", info->name}, {"numbers", usual}});
    rows.insert(rows.end(), others.begin(), others.end());
  }
  return rows;
}

}  // namespace recast
