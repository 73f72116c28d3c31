#pragma once
#include <memory>

#include "bindings.h"
#include "recast/run/model_directory.h"

namespace recast::python {

/// A stored task that can be called, and the directory that it lives in.
struct Task {
  ModelDirectory directory;
  LoadedTask loaded;
};

/// Numbers of scopes kTask and kShared as {"PLUG.family@slot#key": Tensor, int, float or str}; tensors share memory.
py::dict numbers_of(const Numbers& numbers);

/// Throws kShapeMismatch, kInvalidArgument: anything but dense floating [B, 3, H, W], saying what helps.
void require_pixels(const at::Tensor& input);

}  // namespace recast::python
