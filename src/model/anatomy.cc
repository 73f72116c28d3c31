#include "recast/model/anatomy.h"

#include "recast/base/error.h"

namespace recast {

const Slot* Anatomy::find(std::string_view name) const {
  for (const Slot& slot : slots) {
    if (slot.name == name) return &slot;
  }
  return nullptr;
}

const Slot& Anatomy::at(std::string_view name) const {
  if (const Slot* slot = find(name)) return *slot;
  std::vector<std::string> names;
  for (const Slot& slot : slots) names.push_back(slot.name);
  const std::string near = nearest(name, names);
  fail(Code::kNotFound, "[model] no slot is named {}: {}", name,
       near.empty() ? fmt::format("the backbone has {} of them, from {} to {}", names.size(),
                                  names.empty() ? "" : names.front(), names.empty() ? "" : names.back())
                    : "did you mean " + near + "?");
}

}  // namespace recast
