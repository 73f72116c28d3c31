#include "recast/method/compose.h"

#include <fmt/ranges.h>

#include <algorithm>

namespace recast {
namespace {

const std::vector<const Plug*> kNone;

bool is_param_slot(std::string_view slot) { return slot.find('@') != std::string_view::npos; }

bool matches(std::string_view pattern, std::string_view name) {
  if (!pattern.ends_with('*')) return pattern == name;
  return name.starts_with(pattern.substr(0, pattern.size() - 1));
}

[[noreturn]] void clash(const Plug& a, const Plug& b, std::string_view rule) {
  fail(Code::kInvalidArgument, "[compose] '{}' and '{}' do not go together: {}", a.alias(), b.alias(), rule);
}

void take_single(const Plug*& place, const Plug& plug, std::string_view rule) {
  if (place) clash(*place, plug, rule);
  place = &plug;
}

/// Orders a slot's weight rules by stage, keeping the recipe's order within one, and refuses two of an exclusive stage.
void order_rules(std::vector<const Plug*>& rules, const std::string& slot) {
  auto stage = [](const Plug* plug) { return plug->roles.weight->stage(); };
  std::stable_sort(rules.begin(), rules.end(), [&](auto* a, auto* b) { return stage(a) < stage(b); });
  for (std::size_t i = 1; i < rules.size(); ++i) {
    if (stage(rules[i]) != stage(rules[i - 1])) continue;
    if (stage(rules[i]) == Stage::kSource) clash(*rules[i - 1], *rules[i], "both make the weight of " + slot);
    if (stage(rules[i]) == Stage::kQuantise) clash(*rules[i - 1], *rules[i], "both quantise " + slot);
  }
}

void check_needs(const Plug& plug, const Anatomy& anatomy) {
  if (!plug.info->has(Need::kBank)) return;
  for (const Slot& slot : anatomy.slots)
    if (slot.bank.defined()) return;
  fail(Code::kUnsupported, "[{}] needs a model directory with templates: run 'recast mimic DIR --out NEW' first",
       plug.alias());
}

Plug make_plug(const PlugSpec& spec) {
  const MethodInfo& info = Registry::instance().find(spec.method);
  Plug plug{&info, spec, info.make(spec.options), {}};
  if (plug.spec.alias.empty()) plug.spec.alias = spec.method;
  plug.roles = plug.method->roles();
  return plug;
}

/// The plug-ins that change this backbone as they are, without options.
std::vector<std::string> those_that_act_on(const Anatomy& anatomy) {
  std::vector<std::string> names;
  for (const MethodInfo* info : Registry::instance().all()) {
    try {
      const Plug plug = make_plug({info->name, info->name, {}});
      if (!plug.roles.weight && !plug.roles.branch) continue;
      check_needs(plug, anatomy);
      if (!plug.method->slots(anatomy).empty()) names.push_back(info->name);
    } catch (const Error&) {
      continue;  // it says itself that it does not go here
    }
  }
  return names;
}

[[noreturn]] void refuse_to_do_nothing(const Plug& plug, const Anatomy& anatomy) {
  const std::vector<std::string> others = those_that_act_on(anatomy);
  fail(Code::kUnsupported, "[{}] finds nothing to act on in this backbone ({}); {}", plug.alias(), plug.info->summary,
       others.empty() ? "'recast inspect' lists its slots"
                      : fmt::format("these do: {} ('recast inspect' lists its slots)", fmt::join(others, ", ")));
}

}  // namespace

PlugSpec parse_plug(const std::string& text) {
  PlugSpec spec;
  const std::size_t colon = text.find(':');
  spec.method = text.substr(0, colon);
  if (spec.method.empty()) fail(Code::kInvalidArgument, "[plug] '{}' names no plug-in: NAME[:key=value,...]", text);
  std::string rest = colon == std::string::npos ? "" : text.substr(colon + 1);
  while (!rest.empty()) {
    const std::size_t comma = rest.find(',');
    const std::string pair = rest.substr(0, comma);
    rest = comma == std::string::npos ? "" : rest.substr(comma + 1);
    const std::size_t equals = pair.find('=');
    if (equals == std::string::npos || equals == 0)
      fail(Code::kInvalidArgument, "[plug] '{}' in '{}' is not key=value", pair, text);
    const std::string key = pair.substr(0, equals), value = pair.substr(equals + 1);
    if (key == "as")
      spec.alias = value;
    else if (!spec.options.emplace(key, value).second)
      fail(Code::kInvalidArgument, "[{}] option '{}' given twice", spec.method, key);
  }
  if (spec.alias.empty()) spec.alias = spec.method;
  if (spec.alias.find_first_of("@#./ ") != std::string::npos)
    fail(Code::kInvalidArgument, "[plug] alias '{}' must not hold any of @ # . / or space", spec.alias);
  return spec;
}

std::string plug_text(const PlugSpec& spec) {
  std::string text = spec.method;
  char separator = ':';
  auto append = [&](const std::string& key, const std::string& value) {
    text += separator + key + "=" + value;
    separator = ',';
  };
  for (const auto& [key, value] : spec.options) append(key, value);
  if (!spec.alias.empty() && spec.alias != spec.method) append("as", spec.alias);
  return text;
}

const Plug& Composition::plug(std::string_view alias) const {
  for (const Plug& plug : plugs_)
    if (plug.alias() == alias) return plug;
  fail(Code::kNotFound, "[compose] no plug-in '{}' in this recipe", alias);
}

std::vector<PlugSpec> Composition::specs() const {
  std::vector<PlugSpec> specs;
  for (const Plug& plug : plugs_) specs.push_back(plug.spec);
  return specs;
}

const std::vector<const Plug*>& Composition::weight_rules(std::string_view slot) const {
  if (const auto found = weight_rules_.find(slot); found != weight_rules_.end()) return found->second;
  for (const auto& [pattern, rules] : weight_rules_)
    if (is_param_slot(pattern) && matches(pattern, slot)) return rules;
  return kNone;
}

const std::vector<const Plug*>& Composition::branches(std::string_view slot) const {
  const auto found = branches_.find(slot);
  return found == branches_.end() ? kNone : found->second;
}

bool Composition::isolated() const {
  return std::all_of(plugs_.begin(), plugs_.end(), [](const Plug& p) { return p.info->has(Claim::kIsolated); });
}

bool Composition::covered(const std::string& param) const {
  const auto& rules = weight_rules(param);
  return is_param_slot(param) && !rules.empty() && rules.front()->roles.weight->stage() == Stage::kSource;
}

std::shared_ptr<const Composition> compose(const std::vector<PlugSpec>& specs, const Anatomy& anatomy) {
  auto made = std::make_shared<Composition>();
  std::vector<Plug>& plugs = made->plugs_;
  for (const PlugSpec& spec : specs) {
    plugs.push_back(make_plug(spec));
    for (std::size_t i = 0; i + 1 < plugs.size(); ++i)
      if (plugs[i].alias() == plugs.back().alias())
        fail(Code::kAlreadyExists, "[compose] plug-in '{}' twice: give one another name with as=NAME",
             plugs[i].alias());
  }
  auto has_base_head = [](const Plug& p) { return p.roles.head && !p.roles.head->corrects(); };
  if (std::none_of(plugs.begin(), plugs.end(), has_base_head))
    for (const MethodInfo* info : Registry::instance().all())
      if (info->has(Claim::kDefaultHead)) plugs.push_back(make_plug({info->name, info->name, {}}));

  for (const Plug& plug : plugs) {
    check_needs(plug, anatomy);
    const std::vector<std::string> slots = plug.method->slots(anatomy);
    if (slots.empty() && (plug.roles.weight || plug.roles.branch)) refuse_to_do_nothing(plug, anatomy);
    for (const std::string& name : slots) {
      if (is_param_slot(name)) {
        if (plug.roles.weight) made->weight_rules_[name].push_back(&plug);
        continue;
      }
      const SlotKind kind = anatomy.at(name).kind;
      const bool has_weight = kind == SlotKind::kWeight || kind == SlotKind::kVector;
      if (has_weight && plug.roles.weight) made->weight_rules_[name].push_back(&plug);
      if (!has_weight && plug.roles.branch) made->branches_[name].push_back(&plug);
      made->moves_features_ = true;
    }
    for (const std::string& tap : plug.method->taps(anatomy)) made->taps_.insert(anatomy.at(tap).name);
    made->varies_by_.insert(plug.info->varies_by.begin(), plug.info->varies_by.end());
    if (plug.roles.head) {
      if (plug.roles.head->corrects())
        made->correctors_.push_back(&plug);
      else
        take_single(made->head_, plug, "both are the base head");
    }
    if (plug.roles.loss && plug.roles.loss->primary())
      take_single(made->primary_loss_, plug, "both are the primary loss");
    if (plug.roles.update && plug.roles.update->drives()) take_single(made->driver_, plug, "both drive the step");
    if (plug.roles.update && plug.roles.update->schedules())
      take_single(made->schedule_, plug, "both schedule the learning rate");
  }
  for (auto& [slot, rules] : made->weight_rules_) {
    order_rules(rules, slot);
    for (const auto& [pattern, others] : made->weight_rules_)
      if (slot != pattern && is_param_slot(slot) && is_param_slot(pattern) && matches(pattern, slot))
        clash(*rules.front(), *others.front(),
              "they name the same numbers by two patterns, " + slot + " and " + pattern);
  }
  for (auto& [slot, branches] : made->branches_) {
    auto replaces = [](const Plug* plug) { return plug->roles.branch->replaces(); };
    std::stable_partition(branches.begin(), branches.end(), replaces);  // the others stand around it
    if (branches.size() > 1 && replaces(branches[1])) clash(*branches[0], *branches[1], "both replace " + slot);
  }
  if (!made->head_) fail(Code::kInternal, "[compose] no head: no plug-in of this program is the default head");
  if (made->moves_features_)
    for (const Plug& plug : plugs)
      if (plug.info->has(Need::kFixedFeatures))
        for (const Plug& other : plugs)
          if (&other != &plug && (other.roles.weight || other.roles.branch))
            clash(plug, other, "the first is for fixed features, the second moves them");
  return made;
}

}  // namespace recast
