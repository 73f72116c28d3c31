#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "cnn.h"
#include "differences.h"
#include "recast/base/error.h"
#include "vit.h"

namespace recast {
namespace {

/// Adds the shapes of the banks to `bank` and takes the weights that they cover out of `backbone`.
void expect_banks(const BankConfig& config, TensorShapes& backbone, TensorShapes& bank, std::string_view origin) {
  for (const BankConfig::Group& group : config.members) {
    if (group.slots.empty()) fail(Code::kDataCorruption, "[model] {}: bank {} has no slots", origin, group.name);
    for (const std::string& slot : group.slots) {
      const auto weight = backbone.find(slot + ".weight");
      if (weight == backbone.end() || weight->second.size() < 2) {
        fail(Code::kDataCorruption, "[model] {}: bank {} covers {}, which is no weight slot or is covered already",
             origin, group.name, slot);
      }
      std::vector<std::int64_t> templates = weight->second;
      const std::int64_t n = config.templates_of(group);
      templates.insert(templates.begin(), n);
      const auto [known, added] = bank.try_emplace(group.name + ".templates", templates);
      if (known->second != templates) {
        fail(Code::kDataCorruption, "[model] {}: the slots of bank {} differ in shape", origin, group.name);
      }
      bank[slot + ".coefficients"] = {config.sets, n};
      backbone.erase(weight);
    }
  }
}

/// The root of a negative variance would be NaN.
void require_variances(const NamedTensors& backbone, std::string_view origin) {
  for (const auto& [name, tensor] : backbone) {
    if (!name.ends_with(".running_var") || (tensor >= 0).all().item<bool>()) continue;
    fail(Code::kDataCorruption, "[model] {}: {} holds negative variances", origin, name);
  }
}

}  // namespace

TensorShapes backbone_tensors(const Network& network) {
  return std::visit([](const auto& kind) { return backbone_tensors(kind); }, network);
}

void Differences::compare(const NamedTensors& given, const TensorShapes& expected) {
  for (const auto& [name, shape] : expected) {
    const auto found = given.find(name);
    if (found == given.end()) {
      missing.push_back(name);
    } else if (!found->second.defined() || found->second.sizes() != at::IntArrayRef(shape)) {
      misshapen.push_back(fmt::format(
          "{} is {}, expected [{}]", name,
          found->second.defined() ? fmt::format("[{}]", fmt::join(found->second.sizes(), ", ")) : "undefined",
          fmt::join(shape, ", ")));
    } else if (found->second.scalar_type() != at::kFloat) {
      misshapen.push_back(fmt::format("{} is {}, expected fp32", name, c10::toString(found->second.scalar_type())));
    }
  }
  for (const auto& [name, tensor] : given) {
    if (!expected.contains(name)) extra.push_back(name);
  }
}

std::string Differences::text() const {
  constexpr std::size_t kNamed = 5;
  std::string out;
  const auto list = [&](const char* what, const std::vector<std::string>& names) {
    if (names.empty()) return;
    const std::size_t shown = std::min(names.size(), kNamed);
    out += fmt::format("{}{} {} ({}{})", out.empty() ? "" : "; ", names.size(), what,
                       fmt::join(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(shown), ", "),
                       shown < names.size() ? ", ..." : "");
  };
  list("missing", missing);
  list("of the wrong shape", misshapen);
  list("not of this architecture", extra);
  return out;
}

void check_files(const ModelFiles& files, std::string_view origin) {
  if (const std::string fault = fault_of(files.config.network); !fault.empty()) {
    fail(Code::kInvalidArgument, "[model] {}: {}", origin, fault);
  }
  TensorShapes backbone = backbone_tensors(files.config.network), bank;
  const BankConfig& config = files.config.bank;
  if (config.target.empty() != config.members.empty()) {
    fail(Code::kDataCorruption, "[model] {}: target \"{}\" with {} banks", origin, config.target,
         config.members.size());
  }
  if (std::set<std::string> names; !std::ranges::all_of(
          config.members, [&](const BankConfig::Group& group) { return names.insert(group.name).second; })) {
    fail(Code::kDataCorruption, "[model] {}: two banks have the same name", origin);
  }
  expect_banks(config, backbone, bank, origin);
  Differences found;
  found.compare(files.backbone, backbone);
  found.compare(files.bank, bank);
  if (!found.empty()) {
    fail(Code::kShapeMismatch, "[model] {}: the tensors are not those of {}: {}", origin, files.config.architecture,
         found.text());
  }
  require_finite(files.backbone, origin);
  require_variances(files.backbone, origin);
  require_finite(files.bank, origin);
}

std::shared_ptr<const Backbone> make_backbone(const ModelFiles& files, at::Device device) {
  check_files(files, files.config.architecture);
  const bool vit = std::holds_alternative<VitConfig>(files.config.network);
  return vit ? make_vit(files, device) : make_cnn(files, device);
}

}  // namespace recast
