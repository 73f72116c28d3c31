#pragma once
#include <string>

#include "recast/base/options.h"

namespace recast {

/// A plug-in by name with its options and the name that it goes by in this recipe.
struct PlugSpec {
  std::string method, alias;
  OptionTexts options;
  bool operator==(const PlugSpec&) const = default;
};

}  // namespace recast
