#pragma once
#include <atomic>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "recast/lab/lab_file.h"
#include "recast/run/failure.h"
#include "recast/run/model_directory.h"

namespace recast {

/// A model of a lab as its cells use it: one of these.
struct PreparedModel {
  std::optional<ModelDirectory> directory;  ///< below the lab's folder, with a store of the lab's own
  std::optional<Failure> failure;           ///< why there is none
};

/// The models that these recipes need, by name: OUT/models/NAME, made where it is not there or was made of something
/// else. A directory that the file names is not written to: links in OUT/models/NAME lead to its files. A model that
/// cannot be made fails the cells that need it, not the lab. Throws kCancelled.
std::map<std::string, PreparedModel> prepare_models(const LabFile& file, const std::set<std::string>& names,
                                                    at::Device device, const std::atomic<bool>* stop,
                                                    Listener* listener);

}  // namespace recast
