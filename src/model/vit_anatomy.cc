#include "recast/base/error.h"
#include "vit.h"

namespace recast {
namespace {

/// Appends slots in the order in which the input meets them; that order is their depth.
class Builder {
 public:
  explicit Builder(const VitConfig& vit) : vit_(vit), tensors_(backbone_tensors(vit)) {}

  void add(std::string name, SlotKind kind, std::vector<std::int64_t> shape, std::string role) {
    Slot slot;
    slot.name = std::move(name);
    slot.kind = kind;
    slot.shape = std::move(shape);
    slot.depth = static_cast<int>(anatomy_.slots.size());
    slot.role = std::move(role);
    anatomy_.slots.push_back(std::move(slot));
  }

  /// A vector slot, if the architecture has that tensor.
  void add_vector(const std::string& name, std::string role) {
    if (const auto shape = tensors_.find(name); shape != tensors_.end()) {
      add(name, SlotKind::kVector, shape->second, std::move(role));
    }
  }

  void add_norm(const std::string& name, const std::string& role) {
    add(name, SlotKind::kNorm, {vit_.width}, role);
    anatomy_.slots.back().eps = vit_.norm_eps;
    add_vector(name + ".weight", role + ".weight");
    add_vector(name + ".bias", role + ".bias");
  }

  void add_block(std::int64_t n) {
    const std::int64_t D = vit_.width, head = D / vit_.heads;
    const auto add_block_vector = [&](const char* role) { add_vector(block_name(n, role), role); };
    add(block_name(n, ""), SlotKind::kActivation, {D}, "block");
    add_norm(block_name(n, "norm1"), "norm1");
    add(block_name(n, "attn"), SlotKind::kActivation, {D}, "attn");
    add(block_name(n, "attn.qkv"), SlotKind::kWeight, {3 * D, D}, "attn.qkv");
    anatomy_.slots.back().parts = {{"q", 0, D}, {"k", D, 2 * D}, {"v", 2 * D, 3 * D}};
    anatomy_.slots.back().unit = head;
    add_block_vector("attn.qkv.bias");
    add(block_name(n, "attn.proj"), SlotKind::kWeight, {D, D}, "attn.proj");
    anatomy_.slots.back().unit = head;
    add_block_vector("attn.proj.bias");
    add_block_vector("attn.scale");
    add_norm(block_name(n, "norm2"), "norm2");
    add(block_name(n, "mlp"), SlotKind::kActivation, {D}, "mlp");
    add(block_name(n, "mlp.fc1"), SlotKind::kWeight, {vit_.mlp_width, D}, "mlp.fc1");
    add_block_vector("mlp.fc1.bias");
    add(block_name(n, "mlp.fc2"), SlotKind::kWeight, {D, vit_.mlp_width}, "mlp.fc2");
    add_block_vector("mlp.fc2.bias");
    add_block_vector("mlp.scale");
    anatomy_.couplings.push_back(
        {"attention", D, vit_.heads, {block_name(n, "attn.qkv")}, {block_name(n, "attn.proj")}});
    anatomy_.couplings.push_back(
        {"mlp", vit_.mlp_width, vit_.mlp_width, {block_name(n, "mlp.fc1")}, {block_name(n, "mlp.fc2")}});
  }

  Anatomy finish() { return std::move(anatomy_); }

 private:
  const VitConfig& vit_;
  const TensorShapes tensors_;
  Anatomy anatomy_;
};

}  // namespace

std::string block_name(std::int64_t block, std::string_view role) {
  return role.empty() ? fmt::format("blocks.{}", block) : fmt::format("blocks.{}.{}", block, role);
}

Anatomy vit_anatomy(const VitConfig& vit) {
  Builder build(vit);
  build.add("patch_embed", SlotKind::kWeight, {vit.width, 3, vit.patch_px, vit.patch_px}, "patch_embed");
  for (const char* name : {"patch_embed.bias", "class_token", "class_position", "register_tokens", "positions"}) {
    build.add_vector(name, name);
  }
  for (std::int64_t n = 0; n < vit.depth; ++n) build.add_block(n);
  build.add_norm("norm", "norm");
  const std::int64_t features = vit.pooling == "token+average" ? 2 * vit.width : vit.width;
  build.add("features", SlotKind::kFeature, {features}, "features");
  return build.finish();
}

TensorShapes backbone_tensors(const VitConfig& vit) {
  const std::int64_t D = vit.width;
  TensorShapes shapes;
  const auto with_bias = [&](const std::string& name, std::vector<std::int64_t> weight, bool bias = true) {
    if (bias) shapes[name + ".bias"] = {weight.front()};
    shapes[name + ".weight"] = std::move(weight);
  };
  with_bias("patch_embed", {D, 3, vit.patch_px, vit.patch_px});
  shapes["positions"] = {vit.grid, vit.grid, D};
  if (vit.class_token) shapes["class_token"] = {D};
  if (vit.class_position) shapes["class_position"] = {D};
  if (vit.register_tokens > 0) shapes["register_tokens"] = {vit.register_tokens, D};
  for (std::int64_t n = 0; n < vit.depth; ++n) {
    with_bias(block_name(n, "norm1"), {D});
    with_bias(block_name(n, "attn.qkv"), {3 * D, D}, vit.qkv_bias);
    with_bias(block_name(n, "attn.proj"), {D, D});
    with_bias(block_name(n, "norm2"), {D});
    with_bias(block_name(n, "mlp.fc1"), {vit.mlp_width, D});
    with_bias(block_name(n, "mlp.fc2"), {D, vit.mlp_width});
    if (vit.layer_scale) shapes[block_name(n, "attn.scale")] = shapes[block_name(n, "mlp.scale")] = {D};
  }
  with_bias("norm", {D});
  return shapes;
}

}  // namespace recast
