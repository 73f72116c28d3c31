#include "recast/run/adaptation.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "recast/base/error.h"
#include "recast/format/printable.h"
#include "recast/method/recipe.h"
#include "recast/method/slot_weight.h"
#include "start_context.h"

namespace recast {
namespace {

/// "PLUG.family@slot#key" in its parts; `name` is what the plug-in calls it.
struct FullName {
  std::string plug, name, slot;
};
FullName split_name(const std::string& full) {
  const std::size_t dot = full.find('.'), at = full.find('@'), key = full.find('#');
  if (dot == full.npos || at == full.npos || at < dot)
    fail(Code::kInvalidArgument, "[adapt] '{}' is no number of a slot: PLUG.family@slot", printable(full));
  return {full.substr(0, dot), full.substr(dot + 1), full.substr(at + 1, key == full.npos ? key : key - at - 1)};
}

std::shared_ptr<const Composition> composed(const Backbone& backbone, const std::vector<std::string>& texts) {
  std::vector<PlugSpec> plugs;
  for (const std::string& text : texts) plugs.push_back(parse_plug(text));
  const Recipe bare;  // no loss, no optimiser: those are the caller's
  return compose(merge_plugs(bare, std::move(plugs), backbone.anatomy()), backbone.anatomy());
}

void require_weights_only(const Plug& plug, const Anatomy& anatomy) {
  if (!plug.roles.branch || plug.method->slots(anatomy).empty()) return;
  fail(Code::kUnsupported,
       "[adapt] '{}' acts beside {}, and only plug-ins that make weights can be used in a network of another "
       "library: learn with it here ('recast learn')",
       plug.alias(), plug.method->slots(anatomy).front());
}

/// The plug-ins that decide what a task's weights are, as text.
std::vector<std::string> weight_plugs(const Composition& recipe) {
  std::vector<std::string> texts;
  for (const Plug& plug : recipe.plugs())
    if (plug.roles.weight || plug.roles.branch) texts.push_back(plug_text(plug.spec));
  return texts;
}

Key key_of(std::uint64_t seed, const Plug& plug) { return Key(seed).fold("learn").fold(plug.alias()); }

}  // namespace

Adaptation::Adaptation(ModelFiles files, const std::vector<std::string>& plugs, std::uint64_t seed)
    : files_(std::make_shared<const ModelFiles>(std::move(files))),
      fingerprint_(files_->fingerprint()),
      backbone_(make_backbone(*files_)),
      recipe_(composed(*backbone_, plugs)) {
  find_slots(seed);
}

std::vector<std::string> Adaptation::plugs() const {
  std::vector<std::string> texts;
  for (const PlugSpec& spec : recipe_->specs()) texts.push_back(plug_text(spec));
  return texts;
}

void Adaptation::find_slots(std::uint64_t seed) {
  const at::NoGradGuard no_grad;
  const Anatomy& anatomy = backbone_->anatomy();
  for (const Slot& slot : anatomy.slots)
    if (!recipe_->weight_rules(slot.name).empty())
      slots_.push_back({slot.name, slot.kind == SlotKind::kVector, {}, {}});
  for (const Plug& plug : recipe_->plugs()) {
    require_weights_only(plug, anatomy);
    StartContext context(*backbone_, *plug.info, key_of(seed, plug));
    plug.method->begin_task(context);
    for (const auto& [scope, state] : context.states()) {
      for (const auto& [name, number] : state) {
        const std::string full = plug.alias() + "." + name;
        if (recipe_->covered(full)) continue;  // another plug-in makes it
        const auto* tensor = std::get_if<at::Tensor>(&number);
        const std::size_t at = name.find('@');
        const std::string where = at == name.npos ? "" : split_name(full).slot;
        const auto made = std::ranges::find(slots_, where, &MadeSlot::name);
        if (scope != Scope::kTask || !tensor || made == slots_.end())
          fail(Code::kUnsupported,
               "[adapt] '{}' keeps '{}', which is no tensor of one task and one weight: learn with it here ('recast "
               "learn')",
               plug.alias(), name);
        made->numbers[full] = *tensor;
        made->trains[full] = plug.info->family(family_of(name))->trains;
      }
    }
  }
  for (const MadeSlot& slot : slots_)
    if (slot.numbers.empty())
      fail(Code::kUnsupported, "[adapt] no number of a task makes the weight of {}: learn with these plug-ins here",
           slot.name);
}

const Adaptation::MadeSlot& Adaptation::slot(const std::string& name) const {
  const auto found = std::ranges::find(slots_, name, &MadeSlot::name);
  if (found != slots_.end()) return *found;
  std::vector<std::string> names;
  for (const MadeSlot& known : slots_) names.push_back(known.name);
  const std::string near = nearest(name, names);
  fail(Code::kNotFound, "[adapt] no plug-in makes the weight of '{}'{}", printable(name),
       near.empty() ? "" : ", did you mean '" + near + "'?");
}

std::shared_ptr<const Backbone> Adaptation::backbone_on(at::Device device) const {
  if (device.is_cpu()) return backbone_;
  const std::lock_guard lock(elsewhere_->mutex);
  auto& backbone = elsewhere_->backbones[device.str()];
  if (!backbone) backbone = make_backbone(*files_, device);
  return backbone;
}

Numbers Adaptation::numbers_of(const NamedTensors& numbers) const {
  Numbers by_plug;
  for (const auto& [full, tensor] : numbers) {
    const FullName name = split_name(full);
    recipe_->plug(name.plug);  // throws where there is none
    const bool whole = at::isFloatingType(tensor.scalar_type());
    by_plug.at(name.plug, Scope::kTask).set(name.name, whole ? tensor.to(at::kFloat) : tensor);
  }
  return by_plug;
}

at::Tensor Adaptation::weight(const std::string& name, const NamedTensors& numbers) const {
  const MadeSlot& made = slot(name);
  for (const auto& [full, start] : made.numbers) {
    const auto given = numbers.find(full);
    if (given == numbers.end()) fail(Code::kNotFound, "[adapt] {} needs '{}'", name, full);
    if (given->second.sizes() != start.sizes())
      fail(Code::kShapeMismatch, "[adapt] '{}' is [{}], expected [{}]", full, fmt::join(given->second.sizes(), ", "),
           fmt::join(start.sizes(), ", "));
  }
  const at::Device device = numbers.begin()->second.device();
  return slot_weight(Model(backbone_on(device), recipe_, numbers_of(numbers)), name);
}

at::Tensor Adaptation::features(const at::Tensor& pixels, const NamedTensors& numbers) const {
  const Batch batch{{{"input", pixels}}, pixels.size(0)};
  return Model(backbone_, recipe_, numbers_of(numbers)).features(batch, {});
}

TaskRecord Adaptation::record(const std::string& task, const std::vector<std::string>& labels,
                              const NamedTensors& numbers, const LinearHead& head) const {
  const at::NoGradGuard no_grad;
  const auto classes = static_cast<std::int64_t>(labels.size());
  if (head.weight.dim() != 2 || head.weight.size(0) != classes || head.weight.size(1) != feature_width() ||
      head.bias.sizes() != at::IntArrayRef({classes}))
    fail(Code::kShapeMismatch,
         "[adapt] a head of {} labels over {} features has weight [{}, {}] and bias [{}]; got [{}] "
         "and [{}]",
         classes, feature_width(), classes, feature_width(), classes, fmt::join(head.weight.sizes(), ", "),
         fmt::join(head.bias.sizes(), ", "));
  TaskRecord record;
  record.name = task;
  record.fingerprint = fingerprint_;
  record.plugs = recipe_->specs();
  record.labels = labels;
  record.recipe = {{"name", "adapted"}, {"image_size", files_->config.preprocessing.size_px}};
  const auto stored = [](const at::Tensor& t) {
    return t.detach().to(at::kCPU, t.is_floating_point() ? at::kFloat : t.scalar_type()).contiguous().clone();
  };
  NamedTensors given;
  for (const MadeSlot& made : slots_)
    for (const auto& [full, start] : made.numbers) {
      const auto found = numbers.find(full);
      if (found == numbers.end()) fail(Code::kNotFound, "[adapt] the task lacks '{}'", full);
      given[full] = stored(found->second).set_requires_grad(made.trains.at(full));
    }
  const Numbers by_plug = numbers_of(given);
  for (const Plug& plug : recipe_->plugs()) {
    StartContext context(*backbone_, *plug.info, Key(0));
    State& own = context.own(Scope::kTask);
    own = by_plug.at(plug.alias(), Scope::kTask);
    if (plug.roles.head) {
      const bool linear = plug.roles.head->adopt(stored(head.weight), stored(head.bias), own);
      if (!linear) fail(Code::kUnsupported, "[adapt] the head '{}' takes over no linear classifier", plug.alias());
      for (const auto& [name, number] : own)
        if (const auto* tensor = std::get_if<at::Tensor>(&number)) tensor->set_requires_grad(true);
    }
    plug.method->end_task(context);
    record.numbers.at(plug.alias(), Scope::kTask) = own.clone();
  }
  return record;
}

Adaptation::Stored Adaptation::stored(const TaskRecord& record) const {
  const at::NoGradGuard no_grad;
  if (record.fingerprint != fingerprint_)
    fail(Code::kShapeMismatch, "[adapt] '{}' belongs to backbone {}, this network is {}", record.name,
         record.fingerprint, fingerprint_);
  const auto theirs = compose(record.plugs, backbone_->anatomy());
  if (weight_plugs(*theirs) != weight_plugs(*recipe_))
    fail(Code::kShapeMismatch, "[adapt] the weights of '{}' are made by {}, those of this network by {}", record.name,
         fmt::join(weight_plugs(*theirs), ", "), fmt::join(weight_plugs(*recipe_), ", "));
  Stored found;
  for (const Plug& plug : theirs->plugs()) {
    if (!plug.roles.weight) continue;
    StartContext context(*backbone_, *plug.info, Key(0));
    context.own(Scope::kTask) = record.numbers.at(plug.alias(), Scope::kTask).clone();
    plug.method->continue_task(context);
    for (const MadeSlot& made : slots_)
      for (const auto& [full, start] : made.numbers)
        if (const FullName name = split_name(full); name.plug == plug.alias())
          found.numbers[full] = context.own(Scope::kTask).tensor(name.name);
  }
  const Plug& head = theirs->head();
  State scratch;
  const auto rows = head.roles.head->class_rows(record.numbers.at(head.alias(), Scope::kTask));
  if (!rows || !head.roles.head->adopt(*rows, at::zeros({rows->size(0)}), scratch))
    fail(Code::kUnsupported, "[adapt] the head '{}' of '{}' is not linear", head.alias(), record.name);
  const Batch origin{{{"features", at::zeros({1, feature_width()})}}, 1};
  found.head.weight = rows->clone();
  found.head.bias = Model(backbone_, theirs, record.numbers).forward(origin, {}).at("logits")[0].clone();
  return found;
}

void Adaptation::require_frozen(const ModelFiles& now) const {
  const auto made = [&](const std::string& tensor) {
    return std::ranges::any_of(
        slots_, [&](const MadeSlot& slot) { return tensor == (slot.vector ? slot.name : slot.name + ".weight"); });
  };
  for (const auto& [name, tensor] : files_->backbone) {
    if (made(name)) continue;
    const auto found = now.backbone.find(name);
    if (found == now.backbone.end() || !at::equal(found->second, tensor))
      fail(Code::kShapeMismatch, "[adapt] the network's {} is not that of the model directory: it has other weights",
           name);
  }
}

}  // namespace recast
