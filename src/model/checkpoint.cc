#include "checkpoint.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "recast/base/error.h"
#include "recast/format/printable.h"

namespace recast {

const Library& Checkpoint::recognise(std::span<const Library> libraries) {
  const Library* found = nullptr;
  for (const Library& library : libraries) {
    for (const auto& [name, tensor] : given_) {
      if (!name.ends_with(library.anchor)) continue;
      const std::string prefix = name.substr(0, name.size() - std::string_view(library.anchor).size());
      if (!prefix.empty() && !prefix.ends_with('.')) continue;
      if (found != nullptr) {
        fail(Code::kUnsupported,
             "[import] {} holds more than one network ({}{} and {}): keep the tensors of one of them", origin_, prefix_,
             found->anchor, name);
      }
      found = &library;
      prefix_ = prefix;
    }
  }
  if (found != nullptr) return *found;
  Names first;
  for (const auto& [name, tensor] : given_) {
    if (first.size() < 3) first.push_back(printable(name));
  }
  fail(
      Code::kUnsupported,
      "[import] {} is no vision transformer, ResNet or EfficientNet under names that recast knows (timm, Hugging Face, "
      "torchvision, efficientnet_pytorch): it has {} tensors{}{}",
      origin_, given_.size(), first.empty() ? "" : ", such as ", fmt::join(first, ", "));
}

void Checkpoint::require_floating() const {
  for (const auto& [name, tensor] : given_) {
    const at::ScalarType type = tensor.scalar_type();
    if (type == at::kDouble || type == at::kFloat || type == at::kHalf || type == at::kBFloat16) continue;
    fail(Code::kUnsupported,
         "[import] {}: {} is of type {}, expected fp64, fp32, fp16 or bf16: import the unquantised weights", origin_,
         printable(name), c10::toString(type));
  }
}

const at::Tensor* Checkpoint::find(const std::string& name) const {
  const auto found = given_.find(prefix_ + name);
  return found == given_.end() ? nullptr : &found->second;
}

const at::Tensor* Checkpoint::find_any(const Names& names) const {
  for (const std::string& name : names) {
    if (const at::Tensor* tensor = find(name)) return tensor;
  }
  return nullptr;
}

const std::string& Checkpoint::present(const Names& names) const {
  const auto found = std::ranges::find_if(names, [&](const std::string& name) { return find(name) != nullptr; });
  return found == names.end() ? names.front() : *found;
}

void Checkpoint::drop_ending(std::string_view ending) {
  std::erase_if(given_, [&](const auto& entry) { return entry.first.ends_with(ending); });
}

at::Tensor Checkpoint::take(const std::string& name) {
  const auto found = given_.find(prefix_ + name);
  if (found == given_.end()) {
    differences_.missing.push_back(prefix_ + name);
    return {};
  }
  at::Tensor tensor = as_fp32(found->first, found->second);
  given_.erase(found);
  return tensor;
}

at::Tensor Checkpoint::take(const std::string& name, at::IntArrayRef shape) {
  at::Tensor tensor = take(name);
  if (!tensor.defined() || tensor.sizes() == shape) return tensor;
  note_misshapen(prefix_ + name, tensor.sizes(), fmt::format("[{}]", fmt::join(shape, ", ")));
  return {};
}

at::Tensor Checkpoint::as_fp32(const std::string& name, const at::Tensor& tensor) const {
  require_finite({{name, tensor}}, origin_);
  at::Tensor converted = tensor.to(at::kFloat).contiguous();
  if (tensor.scalar_type() == at::kDouble && !at::isfinite(converted).all().item<bool>()) {
    fail(Code::kDataCorruption, "[import] {}: {} holds fp64 values beyond the range of fp32", origin_, printable(name));
  }
  return converted;
}

Classifier Checkpoint::take_classifier(const Names& names, std::span<const std::int64_t> widths) {
  Names places;
  for (const std::string& name : names) {
    places.push_back(name);
    if (!prefix_.empty()) places.push_back(prefix_ + name);
  }
  const auto found =
      std::ranges::find_if(places, [&](const std::string& name) { return given_.contains(name + ".weight"); });
  if (found == places.end()) return {};
  Classifier taken;
  const auto weight = given_.find(*found + ".weight");
  const at::Tensor w = taken.weight = as_fp32(weight->first, weight->second);
  given_.erase(weight);
  const bool fits = w.dim() == 2 && w.size(0) >= 1 && std::ranges::find(widths, w.size(1)) != widths.end();
  if (!fits) note_misshapen(*found + ".weight", w.sizes(), fmt::format("[classes, {}]", widths.front()));
  const auto bias = given_.find(*found + ".bias");
  if (bias == given_.end()) {
    differences_.missing.push_back(*found + ".bias");
    return taken;
  }
  taken.bias = as_fp32(bias->first, bias->second);
  given_.erase(bias);
  if (w.dim() == 2 && taken.bias.sizes() != at::IntArrayRef({w.size(0)}))
    note_misshapen(*found + ".bias", taken.bias.sizes(), fmt::format("[{}]", w.size(0)));
  return taken;
}

void Checkpoint::note_misshapen(const std::string& full_name, at::IntArrayRef got, const std::string& expected) {
  differences_.misshapen.push_back(fmt::format("{} is [{}], expected {}", full_name, fmt::join(got, ", "), expected));
}

void Checkpoint::finish(const std::string& architecture) {
  for (const auto& [name, tensor] : given_) differences_.extra.push_back(printable(name));
  if (differences_.empty()) return;
  fail(Code::kShapeMismatch, "[import] {} does not fit {}: {}", origin_, architecture, differences_.text());
}

}  // namespace recast
