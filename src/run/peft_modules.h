#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "recast/model/anatomy.h"

namespace recast {

/// A module of another library's vision transformer that PEFT may adapt, and what it is here.
struct PeftModule {
  std::string name;  ///< "vit.layers.3.attention.q_proj", as in the library's model
  std::string slot;  ///< "blocks.3.attn.qkv"
  std::string part;  ///< "q"; empty: the whole slot
};

/// How a library calls the modules of one backbone.
struct PeftNaming {
  std::string library;              ///< "timm", "transformers" (5 and later), "transformers4"
  std::string prefix;               ///< of blocks and patch embedding: "vit.", "dinov2."; may be empty
  std::string classifier;           ///< of its whole name: "classifier", "head"
  std::vector<PeftModule> modules;  ///< in depth order

  const PeftModule* find(std::string_view name) const;
};

std::vector<std::string> peft_libraries();

/// The names that a library's image classifier has for this backbone. Throws kUnsupported: no vision transformer, or an
/// unknown library.
PeftNaming peft_naming(const Anatomy& anatomy, std::string_view library);

/// The naming to which all these modules of an adapter belong, the classifier among them or not. Throws  kUnsupported:
/// none, with the first module that is foreign;  kShapeMismatch: a block beyond the backbone's depth. `origin` names
/// the folder, `base` and `architecture` what it was made for and what it meets.
PeftNaming recognise_peft_naming(const Anatomy& anatomy, const std::vector<std::string>& modules,
                                 std::string_view origin, std::string_view base, std::string_view architecture);

/// What another library tells of a backbone's family: "vit", "dinov2" (LayerScale), "dinov2_with_registers".
std::string peft_family(const Anatomy& anatomy);

}  // namespace recast
