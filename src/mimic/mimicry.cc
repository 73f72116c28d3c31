#include "recast/mimic/mimicry.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fmt/ranges.h>

#include <limits>

#include "closed_solver.h"
#include "recast/base/error.h"
#include "recast/base/key.h"

namespace recast {
namespace {

/// More templates or sets than anyone can use, few enough that sizes stay far from overflow.
constexpr std::int64_t kMostTemplates = 1024;

struct Target {
  const char* name;
  std::vector<const char*> roles;
};

const std::vector<Target>& targets() {
  static const std::vector<Target> kTargets = {{"attn", {"attn.qkv"}},
                                               {"mlp", {"mlp.fc1", "mlp.fc2"}},
                                               {"attn+mlp", {"attn.qkv", "mlp.fc1", "mlp.fc2"}},
                                               {"all", {"attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"}}};
  return kTargets;
}

std::string suggestion(const std::string& word, const std::vector<std::string>& names) {
  const std::string near = nearest(word, names);
  return near.empty() ? fmt::format("take one of {}", fmt::join(names, ", ")) : "did you mean " + near + "?";
}

const Target& target(const std::string& name) {
  std::vector<std::string> names;
  for (const Target& candidate : targets()) {
    if (candidate.name == name) return candidate;
    names.emplace_back(candidate.name);
  }
  fail(Code::kInvalidArgument, "[mimic] unknown target {}: {}", name, suggestion(name, names));
}

void require_range(const char* name, std::int64_t value, std::int64_t most) {
  if (value >= 1 && value <= most) return;
  fail(Code::kInvalidArgument, "[mimic] {} must lie in 1..{}, got {}", name, most, value);
}

/// G runs of consecutive slots of every target role, their lengths differing by at most one.
std::vector<BankConfig::Group> plan_groups(const Anatomy& anatomy, const MimicryOptions& options) {
  std::vector<BankConfig::Group> groups;
  for (const char* role : target(options.target).roles) {
    std::vector<const Slot*> slots;
    for (const Slot& slot : anatomy.slots) {
      if (slot.kind == SlotKind::kWeight && slot.role == role) slots.push_back(&slot);
    }
    const auto L = static_cast<std::int64_t>(slots.size()), G = options.groups;
    require_range("groups", G, L);
    for (std::int64_t g = 0; g < G; ++g) {
      BankConfig::Group group{fmt::format("{}.{}", role, g), {}};
      for (std::int64_t l = g * L / G; l < (g + 1) * L / G; ++l) group.slots.push_back(slots[l]->name);
      groups.push_back(std::move(group));
    }
  }
  return groups;
}

/// Solves one group, and moves its slots' weights from the backbone's tensors into the bank's.
void solve_group(const BankConfig::Group& group, const MimicryOptions& options, const MimicrySolver& solver,
                 ModelFiles& files) {
  std::vector<at::Tensor> weights;
  for (const std::string& slot : group.slots) weights.push_back(files.backbone.at(slot + ".weight"));
  const std::uint64_t seed = Key(options.seed).fold(group.name).bits();
  const BankSolution solution = solver.solve(at::stack(weights), options.templates, seed);
  files.bank[group.name + ".templates"] = solution.templates;
  for (std::size_t l = 0; l < group.slots.size(); ++l) {
    const at::Tensor a = solution.coefficients[static_cast<std::int64_t>(l)];
    files.bank[group.slots[l] + ".coefficients"] = a.expand({options.sets, options.templates}).contiguous();
    files.backbone.erase(group.slots[l] + ".weight");
  }
}

SlotFidelity fidelity(const std::string& slot, const at::Tensor& given, const at::Tensor& rebuilt) {
  const at::Tensor w = given.flatten().to(at::kDouble), r = rebuilt.flatten().to(at::kDouble);
  const double norm = w.norm().item<double>(), rebuilt_norm = r.norm().item<double>();
  const double error = (w - r).norm().item<double>();
  if (norm == 0) return {slot, error == 0 ? 0 : std::numeric_limits<double>::infinity(), error == 0 ? 1.0 : 0.0};
  return {slot, error / norm, rebuilt_norm == 0 ? 0 : w.dot(r).item<double>() / (norm * rebuilt_norm)};
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
  if (name == "closed") return kClosed;
  fail(Code::kInvalidArgument, "[mimic] unknown solver {}: {}", name, suggestion(name, mimicry_solver_names()));
}

std::vector<std::string> mimicry_solver_names() { return {"closed"}; }

Mimicry mimic(const ModelFiles& source, const MimicryOptions& options) {
  const c10::AutoGradMode no_grad(false);
  const MimicrySolver& solver = mimicry_solver(options.solver);
  require_range("templates", options.templates, kMostTemplates);
  require_range("sets", options.sets, kMostTemplates);
  const auto original = make_backbone(source);
  Mimicry out{unmimicked(source, *original), {}, 0};
  BankConfig& bank = out.files.config.bank;
  bank = {options.target, options.groups, options.templates,
          options.sets,   options.solver, plan_groups(original->anatomy(), options)};
  for (const BankConfig::Group& group : bank.members) solve_group(group, options, solver, out.files);
  const auto mimicked = make_backbone(out.files);
  for (const Slot& slot : mimicked->anatomy().slots) {
    if (slot.group < 0) continue;
    out.fidelity.push_back(fidelity(slot.name, original->weight(slot), mimicked->weight(slot)));
    out.coefficients += slot.coefficients.numel();
  }
  return out;
}

}  // namespace recast
