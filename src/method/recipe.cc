#include "recast/method/recipe.h"

#include <fmt/ranges.h>

namespace recast {
namespace {

std::map<std::string, Recipe>& recipes() {
  static std::map<std::string, Recipe> recipes;
  return recipes;
}

/// Roles of which a recipe has one at most, for deciding what a user's plug-in replaces.
struct Exclusive {
  bool head, loss, driver, schedule, optimiser;

  explicit Exclusive(const PlugSpec& spec) {
    const auto method = Registry::instance().find(spec.method).make(spec.options);
    const Roles roles = method->roles();
    head = roles.head && !roles.head->corrects();
    loss = roles.loss && roles.loss->primary();
    driver = roles.update && roles.update->drives();
    schedule = roles.update && roles.update->schedules();
    Param any;
    optimiser = roles.update && roles.update->takes(any);
  }
  bool overlaps(const Exclusive& o) const {
    return (head && o.head) || (loss && o.loss) || (driver && o.driver) || (schedule && o.schedule) ||
           (optimiser && o.optimiser);
  }
};

bool needs_met(const MethodInfo& info, const Anatomy& anatomy) {
  if (!info.has(Need::kBank)) return true;
  return std::any_of(anatomy.slots.begin(), anatomy.slots.end(), [](const Slot& s) { return s.bank.defined(); });
}

}  // namespace

std::string Recipe::text() const {
  std::string plug_list;
  for (const PlugSpec& plug : plugs) plug_list += (plug_list.empty() ? "" : " + ") + plug_text(plug);
  return fmt::format(
      "{}: {} epochs, batch {}, rate {}, head rate {}, weight decay {}, clip {}, augmentation {}{}{}; {}", name, epochs,
      batch_size, rate, head_rate, weight_decay, clip_norm, augmentation, fit_head ? ", fitted head" : "",
      bf16 ? ", bf16" : "", plug_list);
}

bool add_recipe(Recipe recipe) {
  std::string name = recipe.name;
  return recipes().insert_or_assign(std::move(name), std::move(recipe)).second;
}

std::vector<std::string> recipe_names() {
  std::vector<std::string> names;
  for (const auto& [name, recipe] : recipes()) names.push_back(name);
  return names;
}

const Recipe& find_recipe(const std::string& name) {
  const auto found = recipes().find(name);
  if (found != recipes().end()) return found->second;
  const std::string near = nearest(name, recipe_names());
  fail(Code::kInvalidArgument, "[recipe] no recipe '{}'{} there are: {}", name,
       near.empty() ? ";" : ", did you mean '" + near + "'?", fmt::join(recipe_names(), ", "));
}

std::vector<PlugSpec> merge_plugs(const Recipe& recipe, std::vector<PlugSpec> chosen, const Anatomy& anatomy) {
  if (chosen.empty())
    for (const MethodInfo* info : Registry::instance().all())
      if (info->has(Claim::kPreferred) && needs_met(*info, anatomy)) chosen.push_back({info->name, info->name, {}});
  std::vector<Exclusive> taken;
  for (const PlugSpec& spec : chosen) taken.emplace_back(spec);
  std::vector<PlugSpec> merged = chosen;
  for (const PlugSpec& spec : recipe.plugs) {
    const Exclusive roles(spec);
    const bool replaced =
        std::any_of(taken.begin(), taken.end(), [&](const Exclusive& t) { return t.overlaps(roles); });
    if (!replaced) merged.push_back(spec);
  }
  return merged;
}

}  // namespace recast
