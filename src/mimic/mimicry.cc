#include "recast/mimic/mimicry.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

#include "closed_solver.h"
#include "encoder_solver.h"
#include "gradient_solver.h"
#include "recast/base/error.h"
#include "recast/base/key.h"
#include "row_passes.h"

namespace recast {
namespace {

/// More templates or sets than anyone can use, few enough that sizes stay far from overflow.
constexpr std::int64_t kMostTemplates = 1024;
constexpr std::int64_t kMostSteps = 1'000'000;

struct Target {
  const char* name;
  std::vector<const char*> roles;          ///< empty: convolutions, see repeated_convolutions()
  std::int64_t groups = 6, templates = 2;  ///< unless asked otherwise
};

const std::vector<Target>& targets() {
  static const std::vector<Target> kTargets = {{"attn", {"attn.qkv"}},
                                               {"mlp", {"mlp.fc1", "mlp.fc2"}},
                                               {"attn+mlp", {"attn.qkv", "mlp.fc1", "mlp.fc2"}},
                                               {"all", {"attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"}},
                                               {"conv", {}, 1, 0}};
  return kTargets;
}

std::string suggestion(const std::string& word, const std::vector<std::string>& names) {
  const std::string near = nearest(word, names);
  return near.empty() ? fmt::format("take one of {}", fmt::join(names, ", ")) : "did you mean " + near + "?";
}

const Target& find_target(const std::string& name) {
  std::vector<std::string> names;
  for (const Target& candidate : targets()) {
    if (candidate.name == name) return candidate;
    names.emplace_back(candidate.name);
  }
  fail(Code::kInvalidArgument, "[mimic] unknown target {}: {}", name, suggestion(name, names));
}

void require_range(const std::string& name, std::int64_t value, std::int64_t most) {
  if (value >= 1 && value <= most) return;
  fail(Code::kInvalidArgument, "[mimic] {} must lie in 1..{}, got {}", name, most, value);
}

/// Slots in depth order that share banks, and how a message calls them.
struct RoleSlots {
  std::string role;
  std::vector<std::string> slots;
};

std::vector<RoleSlots> slots_of(const Target& target, const Anatomy& anatomy) {
  std::vector<RoleSlots> roles;
  for (const char* role : target.roles) {
    roles.push_back({role, {}});
    for (const Slot& slot : anatomy.slots) {
      if (slot.kind == SlotKind::kWeight && slot.role == role) roles.back().slots.push_back(slot.name);
    }
  }
  return roles;
}

/// The role of a convolution in a block names its stage and place ("layer1.conv1"), others have no dot. The first slot
/// of a role is that of the stage's first block, which takes the change of shape: it is left out, and with it
/// projections, which only that block has.
std::vector<RoleSlots> repeated_convolutions(const Anatomy& anatomy) {
  std::vector<RoleSlots> roles;
  for (const Slot& slot : anatomy.slots) {
    if (slot.kind != SlotKind::kWeight || slot.role.find('.') == std::string::npos) continue;
    const auto known = std::ranges::find(roles, slot.role, &RoleSlots::role);
    if (known == roles.end()) {
      roles.push_back({slot.role, {}});
    } else {
      known->slots.push_back(slot.name);
    }
  }
  std::erase_if(roles, [](const RoleSlots& role) { return role.slots.empty(); });
  return roles;
}

/// G runs of consecutive slots of every target role, their lengths differing by at most one.
std::vector<BankConfig::Group> plan_groups(const Anatomy& anatomy, const MimicryOptions& options) {
  const Target& target = find_target(options.target);
  const bool conv = target.roles.empty();
  const std::vector<RoleSlots> roles = conv ? repeated_convolutions(anatomy) : slots_of(target, anatomy);
  if (roles.empty()) fail(Code::kInvalidArgument, "[mimic] no stage of this network repeats a block");
  std::vector<BankConfig::Group> groups;
  for (const auto& [role, slots] : roles) {
    const auto L = static_cast<std::int64_t>(slots.size()), G = options.groups;
    require_range(conv ? "groups of " + role : "groups", G, L);
    for (std::int64_t g = 0; g < G; ++g) {
      groups.push_back({fmt::format("{}.{}", role, g),
                        std::vector<std::string>(slots.begin() + g * L / G, slots.begin() + (g + 1) * L / G)});
    }
  }
  return groups;
}

void check_steps(const MimicryOptions& options) {
  if (options.steps != 0) require_range("steps", options.steps, kMostSteps);
  if (!(options.rate >= 0) || std::isinf(options.rate))
    fail(Code::kInvalidArgument, "[mimic] --rate must be a finite number above 0, got {:g}", options.rate);
}

/// What a slot counts in the loss of `gradient`: the paper's factors for a vision transformer and for the first and the
/// other convolutions of a block.
double loss_factor(const Slot& slot) {
  if (slot.shape.size() == 2) return 2.0;
  return slot.role.ends_with("conv1") ? 3.5 : 2.5;
}

SolverGroup solver_group(const BankConfig::Group& group, const BankConfig& bank, const MimicryOptions& options,
                         const Anatomy& anatomy, const ModelFiles& files) {
  std::vector<at::Tensor> weights;
  for (const std::string& slot : group.slots) weights.push_back(files.backbone.at(slot + ".weight"));
  return {group.name,
          std::move(weights),
          bank.templates_of(group),
          bank.sets,
          loss_factor(anatomy.at(group.slots.front())),
          Key(options.seed).fold(group.name).bits()};
}

/// Moves a group's weights from the backbone's tensors into the bank's.
void take_over(const BankConfig::Group& group, const BankSolution& solution, ModelFiles& files) {
  files.bank[group.name + ".templates"] = solution.templates;
  for (std::size_t l = 0; l < group.slots.size(); ++l) {
    files.bank[group.slots[l] + ".coefficients"] =
        solution.coefficients[static_cast<std::int64_t>(l)].clone(at::MemoryFormat::Contiguous);
    files.backbone.erase(group.slots[l] + ".weight");
  }
}

SlotFidelity fidelity(const std::string& slot, const at::Tensor& given, const at::Tensor& rebuilt) {
  const RowSums sums = compare(given, rebuilt);
  const double norm = std::sqrt(sums.aa), rebuilt_norm = std::sqrt(sums.bb), error = std::sqrt(sums.difference);
  if (norm == 0) return {slot, error == 0 ? 0 : std::numeric_limits<double>::infinity(), error == 0 ? 1.0 : 0.0, 0};
  return {slot, error / norm, rebuilt_norm == 0 ? 0 : sums.ab / (norm * rebuilt_norm), norm};
}

/// The source with every weight dense again.
ModelFiles unmimicked(const ModelFiles& source, const Backbone& backbone) {
  ModelFiles files{source.config, source.backbone, {}};
  files.config.bank = {};
  for (const Slot& slot : backbone.anatomy().slots) {
    if (slot.group >= 0) files.backbone[slot.name + ".weight"] = backbone.weight(slot);
  }
  return files;
}

}  // namespace

const MimicrySolver& mimicry_solver(const std::string& name) {
  static const ClosedSolver kClosed;
  static const GradientSolver kGradient;
  static const EncoderSolver kEncoder;
  if (name == "closed") return kClosed;
  if (name == "gradient") return kGradient;
  if (name == "encoder") return kEncoder;
  fail(Code::kInvalidArgument, "[mimic] unknown solver {}: {}", name, suggestion(name, mimicry_solver_names()));
}

std::vector<std::string> mimicry_solver_names() { return {"closed", "gradient", "encoder"}; }

std::vector<SlotFidelity> measure_fidelity(const Backbone& original, const Backbone& mimicked) {
  std::vector<SlotFidelity> slots;
  for (const Slot& slot : mimicked.anatomy().slots)
    if (slot.group >= 0) slots.push_back(fidelity(slot.name, original.weight(slot), mimicked.weight(slot)));
  return slots;
}

double relative_error(const std::vector<SlotFidelity>& slots) {
  double left = 0, given = 0;
  for (const SlotFidelity& slot : slots) {
    if (slot.norm > 0) left += std::pow(slot.relative_error * slot.norm, 2);
    given += slot.norm * slot.norm;
  }
  return given == 0 ? 0 : std::sqrt(left / given);
}

MimicryOptions resolved(MimicryOptions options, const ModelConfig& config) {
  const bool vit = std::holds_alternative<VitConfig>(config.network);
  if (options.target.empty()) options.target = vit ? "attn" : "conv";
  const Target& target = find_target(options.target);
  if (target.roles.empty() == vit) {
    fail(Code::kInvalidArgument, "[mimic] {} is a {} and has no slots of target {}: take {}", config.architecture,
         vit ? "vision transformer" : "convolutional network", options.target,
         vit ? "attn, mlp, attn+mlp or all" : "conv");
  }
  if (options.groups == 0) options.groups = target.groups;
  if (options.templates == 0) options.templates = target.templates;
  return options;
}

Mimicry mimic(const ModelFiles& source, const MimicryOptions& asked, const std::atomic<bool>* stop,
              const std::function<void(std::int64_t done, std::int64_t total)>& progress) {
  const c10::AutoGradMode no_grad(false);
  const MimicryOptions options = resolved(asked, source.config);
  const MimicrySolver& solver = mimicry_solver(options.solver);
  if (options.templates != 0) require_range("templates", options.templates, kMostTemplates);
  require_range("sets", options.sets, kMostTemplates);
  check_steps(options);
  const auto original = make_backbone(source);
  Mimicry out{unmimicked(source, *original), {}, 0};
  BankConfig& bank = out.files.config.bank;
  bank = {options.target, options.groups, options.templates,
          options.sets,   options.solver, plan_groups(original->anatomy(), options)};
  std::vector<SolverGroup> groups;
  for (const BankConfig::Group& group : bank.members)
    groups.push_back(solver_group(group, bank, options, original->anatomy(), out.files));
  const auto start = std::chrono::steady_clock::now();
  const std::vector<BankSolution> solutions = solver.solve(groups, {options.steps, options.rate, stop, progress});
  out.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  for (std::size_t g = 0; g < groups.size(); ++g) take_over(bank.members[g], solutions[g], out.files);
  const auto mimicked = make_backbone(out.files);
  out.fidelity = measure_fidelity(*original, *mimicked);
  for (const Slot& slot : mimicked->anatomy().slots)
    if (slot.group >= 0) out.coefficients += slot.coefficients.numel();
  return out;
}

}  // namespace recast
