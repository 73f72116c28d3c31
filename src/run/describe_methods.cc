#include "recast/run/describe_methods.h"

#include "recast/method/numbers_file.h"

namespace recast {
namespace {

nlohmann::json describe_roles(const MethodInfo& info) {
  const auto method = info.make({});
  const Roles roles = method->roles();
  nlohmann::json taken = nlohmann::json::array();
  if (roles.weight) taken.push_back("weight rule");
  if (roles.branch) taken.push_back("branch");
  if (roles.head) taken.push_back(roles.head->corrects() ? "head corrector" : "head");
  if (roles.loss) taken.push_back(roles.loss->primary() ? "primary loss" : "loss term");
  if (roles.update)
    taken.push_back(roles.update->drives() ? "driver" : roles.update->schedules() ? "schedule" : "update rule");
  if (roles.batch) taken.push_back("batch rule");
  return taken;
}

}  // namespace

std::string_view name(Claim claim) {
  switch (claim) {
    case Claim::kIsolated:
      return "isolated";
    case Claim::kNeutralStart:
      return "neutral start";
    case Claim::kDefaultHead:
      return "default head";
    case Claim::kPreferred:
      return "preferred";
    case Claim::kOwnStatistics:
      return "own statistics";
    case Claim::kOrderFree:
      return "order free";
  }
  return "";
}

std::string_view name(Need need) {
  switch (need) {
    case Need::kBank:
      return "bank";
    case Need::kWeightGradient:
      return "weight gradient";
    case Need::kFixedFeatures:
      return "fixed features";
    case Need::kNewClasses:
      return "new classes";
  }
  return "";
}

nlohmann::json describe_method(const MethodInfo& info) {
  nlohmann::json options = nlohmann::json::array(), families = nlohmann::json::array();
  nlohmann::json claims = nlohmann::json::array(), needs = nlohmann::json::array(), rate;
  for (const OptionSpec& o : info.options)
    options.push_back({{"name", o.name},
                       {"type", o.type},
                       {"default", o.default_text},
                       {"range", o.range},
                       {"choices", o.choices},
                       {"help", o.help}});
  for (const Family& f : info.families)
    families.push_back({{"name", f.name}, {"scope", name(f.scope)}, {"trains", f.trains}});
  for (const Claim claim : info.claims) claims.push_back(name(claim));
  for (const Need need : info.needs) needs.push_back(name(need));
  if (info.suggested_rate > 0) rate = info.suggested_rate;
  return {{"name", info.name},   {"summary", info.summary}, {"paper", info.paper},    {"roles", describe_roles(info)},
          {"claims", claims},    {"needs", needs},          {"suggested_rate", rate}, {"options", options},
          {"families", families}};
}

nlohmann::json describe_recipe(const Recipe& recipe) {
  nlohmann::json plugs = nlohmann::json::array(), rate;
  for (const PlugSpec& plug : recipe.plugs) plugs.push_back(plug_text(plug));
  if (!recipe.suggested_rates) rate = recipe.rate;
  return {{"name", recipe.name},
          {"summary", recipe.summary},
          {"plugs", plugs},
          {"epochs", recipe.epochs},
          {"batch_size", recipe.batch_size},
          {"lr", rate},
          {"head_lr", recipe.head_rate},
          {"weight_decay", recipe.weight_decay},
          {"clip_norm", recipe.clip_norm},
          {"augmentation", recipe.augmentation},
          {"fit_head", recipe.fit_head},
          {"bf16", recipe.bf16},
          {"seeds", recipe.seeds}};
}

nlohmann::json describe_methods(const std::string& only) {
  nlohmann::json methods = nlohmann::json::array(), recipes = nlohmann::json::array();
  if (!only.empty()) {
    methods.push_back(describe_method(Registry::instance().find(only)));
    return {{"methods", methods}, {"recipes", recipes}};
  }
  for (const MethodInfo* info : Registry::instance().all()) methods.push_back(describe_method(*info));
  for (const std::string& known : recipe_names()) recipes.push_back(describe_recipe(find_recipe(known)));
  return {{"methods", methods}, {"recipes", recipes}};
}

}  // namespace recast
