#pragma once
#include <string>
#include <vector>

#include "recast/model/model_files.h"

namespace recast {

/// How given tensors differ from expected shapes (fp32).
struct Differences {
  std::vector<std::string> missing, misshapen, extra;

  void compare(const NamedTensors& given, const TensorShapes& expected);
  bool empty() const { return missing.empty() && misshapen.empty() && extra.empty(); }
  /// "2 missing (a, b); 7 not of this architecture (c, d, e, f, g, ...)"
  std::string text() const;
};

}  // namespace recast
