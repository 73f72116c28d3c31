#include "peft_modules.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "recast/base/error.h"
#include "recast/format/printable.h"

namespace recast {
namespace {

struct Place {
  std::string_view module;  ///< inside a block
  std::string_view role, part;
};

/// One library's names for one family of networks.
struct Naming {
  const char* library;
  bool dinov2;        ///< of networks with LayerScale; timm has the same names for all
  const char* block;  ///< what precedes the number of a block
  const char* patch_embed;
  const char* classifier;
  std::vector<Place> places;
};

/// The attention of a library's names, and its MLP.
std::vector<Place> places(std::array<const char*, 4> qkv_proj, std::array<const char*, 2> mlp) {
  return {{qkv_proj[0], "attn.qkv", "q"}, {qkv_proj[1], "attn.qkv", "k"}, {qkv_proj[2], "attn.qkv", "v"},
          {qkv_proj[3], "attn.proj", ""}, {mlp[0], "mlp.fc1", ""},        {mlp[1], "mlp.fc2", ""}};
}

const std::vector<Naming>& namings() {
  constexpr std::array<const char*, 4> kNow = {"attention.q_proj", "attention.k_proj", "attention.v_proj",
                                               "attention.o_proj"};
  constexpr std::array<const char*, 4> kBefore = {"attention.attention.query", "attention.attention.key",
                                                  "attention.attention.value", "attention.output.dense"};
  constexpr std::array<const char*, 2> kMlp = {"mlp.fc1", "mlp.fc2"}, kDense = {"intermediate.dense", "output.dense"};
  constexpr const char* kPixels = "embeddings.patch_embeddings.projection";
  static const std::vector<Naming> kNamings = {
      {"timm",
       false,
       "blocks.",
       "patch_embed.proj",
       "head",
       {{"attn.qkv", "attn.qkv", ""},
        {"attn.proj", "attn.proj", ""},
        {"mlp.fc1", "mlp.fc1", ""},
        {"mlp.fc2", "mlp.fc2", ""}}},
      {"transformers", false, "layers.", kPixels, "classifier", places(kNow, kMlp)},
      {"transformers", true, "encoder.layer.", kPixels, "classifier", places(kNow, kMlp)},
      {"transformers4", false, "encoder.layer.", kPixels, "classifier", places(kBefore, kDense)},
      {"transformers4", true, "encoder.layer.", kPixels, "classifier", places(kBefore, kMlp)},
  };
  return kNamings;
}

bool has_role(const Anatomy& anatomy, std::string_view role) {
  return std::ranges::any_of(anatomy.slots, [&](const Slot& slot) { return slot.role == role; });
}

/// The number of a block as its slots' names begin: "blocks.3.attn.qkv".
std::string_view block_number(const Slot& slot) {
  const std::string_view name = slot.name;
  const std::size_t begin = name.find('.') + 1;
  return name.substr(begin, name.find('.', begin) - begin);
}

PeftNaming spelled(const Anatomy& anatomy, const Naming& naming, const std::string& prefix) {
  PeftNaming made{naming.library, prefix, naming.classifier, {}};
  for (const Slot& slot : anatomy.slots) {
    if (slot.kind != SlotKind::kWeight) continue;
    if (slot.role == "patch_embed") made.modules.push_back({prefix + naming.patch_embed, slot.name, ""});
    for (const Place& place : naming.places)
      if (place.role == slot.role)
        made.modules.push_back({fmt::format("{}{}{}.{}", prefix, naming.block, block_number(slot), place.module),
                                slot.name, std::string(place.part)});
  }
  return made;
}

/// What a module's name says under a naming, whatever the backbone's depth.
struct Reading {
  std::string prefix;
  std::int64_t block = 0;
};

std::optional<Reading> read(const Naming& naming, std::string_view name) {
  const std::string_view block = naming.block, patch = naming.patch_embed;
  if (name == patch || (name.ends_with(patch) && name[name.size() - patch.size() - 1] == '.'))
    return Reading{std::string(name.substr(0, name.size() - patch.size())), 0};
  for (std::size_t at = name.find(block); at != name.npos; at = name.find(block, at + 1)) {
    if (at > 0 && name[at - 1] != '.') continue;
    Reading reading{std::string(name.substr(0, at)), 0};
    const char *begin = name.data() + at + block.size(), *end = name.data() + name.size();
    const auto [stop, error] = std::from_chars(begin, end, reading.block);
    if (error != std::errc() || stop == end || *stop != '.' || reading.block < 0) return {};
    const std::string_view inside(stop + 1, static_cast<std::size_t>(end - stop - 1));
    const bool known = std::ranges::any_of(naming.places, [&](const Place& place) { return place.module == inside; });
    if (known) return reading;
    return {};
  }
  return {};
}

/// How many modules, from the first on, belong to a naming with one prefix; the prefix and the deepest block of these.
/// The classifier stands outside of the blocks and has no prefix.
struct Fit {
  std::size_t modules = 0;
  bool placed = false;
  std::string prefix;
  std::int64_t deepest = 0;
};

Fit fit(const Naming& naming, const std::vector<std::string>& modules) {
  Fit fit;
  for (const std::string& module : modules) {
    if (module == naming.classifier) {
      ++fit.modules;
      continue;
    }
    const std::optional<Reading> reading = read(naming, module);
    if (!reading || (fit.placed && reading->prefix != fit.prefix)) break;
    fit.placed = true;
    fit.prefix = reading->prefix;
    fit.deepest = std::max(fit.deepest, reading->block);
    ++fit.modules;
  }
  return fit;
}

std::int64_t depth_of(const Anatomy& anatomy) {
  return std::ranges::count(anatomy.slots, std::string("attn.qkv"), &Slot::role);
}

void require_transformer(const Anatomy& anatomy) {
  if (depth_of(anatomy) == 0)
    fail(Code::kUnsupported, "[peft] adapter folders are read and written for vision transformers; this is none");
}

}  // namespace

const PeftModule* PeftNaming::find(std::string_view name) const {
  const auto found = std::ranges::find(modules, name, &PeftModule::name);
  return found == modules.end() ? nullptr : &*found;
}

std::vector<std::string> peft_libraries() { return {"timm", "transformers", "transformers4"}; }

std::string peft_family(const Anatomy& anatomy) {
  if (anatomy.find("register_tokens") != nullptr) return "dinov2_with_registers";
  return has_role(anatomy, "attn.scale") ? "dinov2" : "vit";
}

PeftNaming peft_naming(const Anatomy& anatomy, std::string_view library) {
  require_transformer(anatomy);
  const std::string family = peft_family(anatomy);
  for (const Naming& naming : namings()) {
    if (naming.library != library) continue;
    if (library == "timm") return spelled(anatomy, naming, "");
    if (naming.dinov2 == (family != "vit")) return spelled(anatomy, naming, family + ".");
  }
  fail(Code::kUnsupported, "[peft] no library '{}'; modules can be named as {} names them", printable(library),
       fmt::join(peft_libraries(), ", "));
}

PeftNaming recognise_peft_naming(const Anatomy& anatomy, const std::vector<std::string>& modules,
                                 std::string_view origin, std::string_view base, std::string_view architecture) {
  require_transformer(anatomy);
  const bool dinov2 = peft_family(anatomy) != "vit";
  const Naming* best = nullptr;
  Fit best_fit;
  for (const bool of_family : {true, false})
    for (const Naming& naming : namings())
      if ((naming.dinov2 == dinov2) == of_family)
        if (Fit here = fit(naming, modules); best == nullptr || here.modules > best_fit.modules)
          best = &naming, best_fit = std::move(here);
  const auto refuse = [&](const std::string& module) {
    fail(Code::kUnsupported,
         "[peft] {}: module {} is none that recast adapts, which are q, k, v, output projection, both layers of the "
         "MLP, the patch embedding and the classifier of timm's and transformers' ViT and DINOv2",
         origin, printable(module, 200));
  };
  if (best_fit.modules < modules.size()) refuse(modules[best_fit.modules]);
  if (best_fit.deepest >= depth_of(anatomy))
    fail(Code::kShapeMismatch, "[peft] {}: made for another base ({}), which has a block {}; {} has {} blocks", origin,
         base, best_fit.deepest, architecture, depth_of(anatomy));
  PeftNaming naming = spelled(anatomy, *best, best_fit.prefix);
  for (const std::string& module : modules)  // "layers.01" reads as a number and is no name
    if (module != naming.classifier && naming.find(module) == nullptr) refuse(module);
  return naming;
}

}  // namespace recast
